"""The status page, and the JSON it is made from."""
