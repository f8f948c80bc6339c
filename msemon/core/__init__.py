"""The functional core: no Kafka, no Prometheus, no clock, no file. Time is an argument."""
