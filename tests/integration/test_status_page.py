"""The status page in a real browser, served by the real server over views built in memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from msemon.core.view import SeriesKey
from support import fleets
from support.browsers import PATIENCE_MS, Visit, browsing
from support.fleets import fleet_site, fleet_view
from support.sites import FakeSite, serving
from support.views import large_view, view_of

expect.set_options(timeout=PATIENCE_MS)

Open = Callable[..., Visit]
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as started:
        yield started


@pytest.fixture
def site() -> FakeSite:
    return fleet_site()


@pytest.fixture
def visit(browser: Browser, site: FakeSite) -> Iterator[Open]:
    """Opens the page of the site; at the end nothing was complained of, and nothing asked for elsewhere."""
    visits: list[Visit] = []
    with serving(site) as server:

        def opened(**emulated: Any) -> Visit:
            visits.append(Visit(browser, server.port, **({"viewport": DESKTOP} | emulated)))
            return visits[-1]

        yield opened
        for each in visits:
            each.context.close()
    assert [each.complaints for each in visits] == [[]] * len(visits)
    assert [each.elsewhere() for each in visits] == [[]] * len(visits)


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"main .series tbody tr > :nth-child({number})").all_inner_texts()


def models(page: Page) -> list[str]:
    return page.locator("main .series tbody th a").all_inner_texts()


def cells(page: Page, model: str, version: str) -> list[str]:
    row = page.locator("main .series tbody tr").filter(has_text=model).filter(has_text=version)
    return [text.strip() for text in row.locator("td").all_inner_texts()]


def test_the_table_has_the_right_numbers_and_the_head_the_pipelines(visit: Open) -> None:
    page = visit().go()
    assert models(page) == ["claim-amount", "delivery-eta", "energy-load", "house-price", "house-price"]
    view = fleet_view()
    e2 = float(view.models.windows[0][3, 2])  # the mean squared error of delivery-eta
    version, segment, rmse, baseline, bias, pairs, _, drift, labelled = cells(page, "delivery-eta", "7")
    assert (version, segment, pairs, labelled) == ("7", "", "400", "75 %")
    assert float(rmse.split()[0]) == pytest.approx(e2**0.5, rel=1e-3)
    low, high = (float(each) for each in re.findall(r"[\d.]+", rmse)[1:])
    assert low < e2**0.5 < high
    assert baseline == f"× {(e2 / 40) ** 0.5:.2f}"
    assert float(bias) == pytest.approx(float(view.models.windows[0][5, 2]), rel=1e-3)
    assert drift == "▲ drifting"
    assert cells(page, "energy-load", "3")[7] == "◔ learning"
    assert cells(page, "house-price", "2026-11")[7] == "● steady"
    assert cells(page, "claim-amount", "")[2] == "–"
    tiles = page.locator("#health .tiles").inner_text()
    for text in ("Ready", "4 of 12", "180 records", "12 rejected", "965K pairs", "640 labels", "up to 120", "2 series"):
        assert text in tiles
    expect(page.locator("#replica")).to_contain_text("4 of 12 partitions")
    expect(page.locator("main .spark")).to_have_count(4)
    assert (page.locator("main .spark .line").first.get_attribute("d") or "").count("M") == 2, "a gap is no line"


def test_a_replica_that_has_all_partitions_says_nothing_of_shares(visit: Open, site: FakeSite) -> None:
    whole = fleet_site(partitions=3, of=3)
    site.registry, site.state = whole.registry, whole.state
    expect(visit().go().locator("#replica")).to_be_empty()


def test_a_head_sorts_and_says_so_and_the_address_keeps_it(visit: Open) -> None:
    looked = visit()
    page = looked.go()
    page.get_by_role("button", name="RMSE").click()
    head = page.get_by_role("columnheader", name="RMSE")
    expect(head).to_have_attribute("aria-sort", "descending")
    expect(page.locator("main .series tbody tr").first).to_contain_text("2026-10")
    assert models(page)[-1] == "claim-amount", "what is absent is last"
    page.get_by_role("button", name="RMSE").click()
    expect(head).to_have_attribute("aria-sort", "ascending")
    expect(page.locator("main .series tbody tr").first).to_contain_text("energy-load")
    expect(page.locator("#said")).to_have_text("Sorted by RMSE, ascending")
    page.reload()
    expect(page.locator("main .series tbody tr").first).to_contain_text("energy-load")
    page.go_back()
    expect(page.get_by_role("columnheader", name="RMSE")).to_have_attribute("aria-sort", "descending")


def test_search_kind_drift_and_window_filter_on_the_server(visit: Open) -> None:
    looked = visit()
    page = looked.go()
    page.get_by_role("searchbox").fill("PRICE")
    expect(page.locator("main .series tbody tr")).to_have_count(2)
    expect(page.locator("#said")).to_have_text("2 found")
    page.get_by_label("Models or segments").select_option("all")
    expect(page.locator("main .series tbody tr")).to_have_count(7)
    page.get_by_role("searchbox").fill("")
    page.get_by_label("Drifting only").check()
    expect(page.locator("main .series tbody tr")).to_have_count(2)
    assert column(page, 3) == ["", "country = DE"]
    page.get_by_role("radio", name="24h").check()
    expect(page.get_by_role("radio", name="24h")).to_be_checked()
    page.wait_for_url(re.compile("window=24h"))
    page.get_by_role("searchbox").fill("nobody")
    expect(page.locator("main .nothing")).to_have_text("Nothing matches.")
    assert any("search=PRICE" in each and "limit=50" in each for each in looked.questions())


def test_a_models_page_has_versions_windows_delay_and_segments_by_their_share(visit: Open) -> None:
    page = visit().go()
    page.get_by_role("link", name="delivery-eta").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("delivery-eta")
    expect(page.get_by_role("table", name="Versions of delivery-eta")).to_contain_text("180 %")
    windows = page.get_by_role("table", name="Windows", exact=True)
    expect(windows.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_text("Half of the labels come within 5 min")).to_be_visible()
    segments = page.get_by_role("table", name="Segments by their share")
    expect(segments.locator("tbody tr")).to_have_count(5)
    shares = [float(text.split()[0]) for text in column(page, 2)]
    assert shares == sorted(shares, reverse=True)
    assert page.title() == "delivery-eta · msemon"
    page.get_by_role("link", name="All models").click()
    expect(page.get_by_role("link", name="claim-amount")).to_be_visible()


def test_a_models_page_can_be_linked_to_and_a_version_chosen(visit: Open) -> None:
    page = visit().go("#model=house-price")
    expect(page.get_by_role("heading", name="Windows of version 2026-11")).to_be_visible()
    page.get_by_role("link", name="2026-10").click()
    expect(page.get_by_role("heading", name="Windows of version 2026-10")).to_be_visible()
    expect(page.locator("main .nothing")).to_be_visible()


def test_a_model_that_is_not_there_is_said_and_the_rest_goes_on(visit: Open) -> None:
    looked = visit()
    page = looked.page
    page.goto(f"{looked._origin}/#model=nobody")
    expect(page.locator("main")).to_contain_text("there is no model 'nobody' here")
    expect(page.locator("#health")).to_contain_text("Ready")
    expect(page.locator("#stale")).to_be_hidden()
    looked.complaints[:] = [each for each in looked.complaints if "404" not in each]  # the browser logs the answer


def test_numbers_are_renewed_until_the_reader_pauses_or_looks_away(visit: Open, site: FakeSite) -> None:
    looked = visit()
    looked.page.clock.install()
    page = looked.go()
    site.shown = view_of({SeriesKey("newcomer", ""): [(3.0, 0.0, 1.0)]}, windows=["5m"])
    page.clock.fast_forward(5_000)
    expect(page.get_by_role("link", name="newcomer")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    asked = len(looked.questions())
    page.clock.fast_forward(60_000)
    expect(page.locator("#updated")).to_contain_text("Paused")
    assert len(looked.questions()) == asked
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#updated")).to_contain_text("Updated")
    page.evaluate(
        """() => { Object.defineProperty(document, "hidden", { value: true, configurable: true });
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    asked = len(looked.questions())
    page.clock.fast_forward(60_000)
    assert len(looked.questions()) == asked
    page.evaluate(
        """() => { Object.defineProperty(document, "hidden", { value: false });
                   document.dispatchEvent(new Event("visibilitychange")); }"""
    )
    expect(page.locator("#updated")).to_contain_text("now")
    assert len(looked.questions()) == asked + 3


def test_what_is_old_is_said_and_taken_back(browser: Browser, site: FakeSite) -> None:
    with serving(site) as server:
        looked = Visit(browser, server.port, viewport=DESKTOP)
        looked.page.clock.install()
        page = looked.go()
        looked.page.route("**/api/**", lambda route: route.abort())
        page.clock.fast_forward(5_000)
        expect(page.get_by_role("alert")).to_contain_text("The daemon does not answer. What is shown is from")
        expect(page.get_by_role("link", name="delivery-eta")).to_be_visible()
        looked.page.unroute("**/api/**")
        page.clock.fast_forward(5_000)
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("#said")).to_have_text("The numbers are up to date again")
        looked.context.close()


def test_the_keyboard_reaches_everything_and_the_focus_outlives_a_refresh(visit: Open, site: FakeSite) -> None:
    looked = visit()
    looked.page.clock.install()
    page = looked.go()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Skip to the numbers")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.textContent") == "delivery-eta":
            break
    link = page.get_by_role("link", name="delivery-eta")
    expect(link).to_be_focused()
    assert link.evaluate("(e) => getComputedStyle(e).outlineStyle") == "solid", "and it is seen where the focus is"
    views = site.views
    page.clock.fast_forward(5_000)
    page.wait_for_timeout(0)
    expect(page.locator("#updated")).to_contain_text("now")
    assert site.views > views
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("delivery-eta")


def test_the_list_of_dimensions_keeps_focus_and_choice_when_segments_come_and_go(
    visit: Open, site: FakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = visit()
    looked.page.clock.install()
    page = looked.go("#model=house-price&dimension=country")
    picker = page.get_by_label("Dimension")
    expect(picker.locator("option").last).to_have_text(f"country ({len(fleets.COUNTRIES)})")
    picker.focus()
    monkeypatch.setattr(fleets, "COUNTRIES", fleets.COUNTRIES[:2])
    site.shown = fleet_view()
    page.clock.fast_forward(5_000)
    expect(picker.locator("option").last).to_have_text("country (2)")
    expect(picker).to_be_focused()
    expect(picker).to_have_value("country")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_anybody_from_using_it_in_light_and_dark(visit: Open, scheme: str) -> None:
    looked = visit(color_scheme=scheme)
    page = looked.go("#kind=all")
    page.get_by_text("Pipeline in detail").click()
    expect(page.get_by_role("table", name="Events read")).to_be_visible()
    assert looked.obstacles() == ""
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", ground))) > 384) == (scheme == "light")
    looked.go("#model=house-price")
    page.reload()
    page.get_by_role("heading", name="Label delay").wait_for()
    assert looked.obstacles() == ""


@pytest.mark.parametrize("place", ["", "#model=house-price"])
def test_a_phone_has_it_within_its_width(visit: Open, place: str) -> None:
    looked = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page = looked.go(place)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    expect(page.locator("main").get_by_text("▲").or_(page.locator("main").get_by_text("●")).first).to_be_visible()
    assert looked.obstacles() == ""


def test_ten_thousand_series_are_turned_page_by_page(visit: Open, site: FakeSite) -> None:
    site.shown = large_view(100, 100)
    looked = visit()
    page = looked.go("#kind=all")
    expect(page.locator(".pager")).to_contain_text("1–50 of 10,100")
    expect(page.locator("main tbody tr")).to_have_count(50)
    page.get_by_role("button", name="Last page").click()
    expect(page.locator(".pager")).to_contain_text("10,051–10,100 of 10,100")
    page.get_by_role("button", name="Page before").click()
    expect(page.locator(".pager")).to_contain_text("10,001–10,050 of 10,100")
    page.get_by_role("searchbox").fill("model-77 c5,gold")
    expect(page.locator(".pager")).to_contain_text("1–1 of 1")
    assert page.locator("body *").count() < 2_500


def test_text_of_users_cannot_become_markup(visit: Open, site: FakeSite) -> None:
    evil = "<img src=x onerror=\"document.title='pwned'\">"
    script = "</td><script>document.title='pwned'</script>"
    link = "javascript:document.title='pwned'"
    pairs = [(3.0, 0.0, 1.0)] * 9
    total = SeriesKey(evil, script)
    site.shown = view_of({total: pairs, SeriesKey(link, ""): pairs}, {SeriesKey(*total[:2], link, evil): pairs})
    looked = visit()
    page = looked.go("#kind=all")
    assert sorted(set(models(page))) == sorted({evil, link})
    expect(page.locator("main tbody")).to_contain_text(f"{link} = {evil}")
    page.get_by_role("link", name=evil).first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(evil)
    assert page.url.endswith(
        f"model={quote(evil, safe='*-._').replace('%20', '+')}&version=" + quote(script, safe="*-._")
    )
    page.get_by_role("table", name="Segments by their share").get_by_text(evil).wait_for()
    assert page.locator("main img, main script").count() == 0
    assert "pwned" not in page.evaluate("() => [...document.scripts].map((each) => each.textContent).join()")
    assert page.title() == f"{evil} · msemon"


def test_no_script_may_run_that_is_not_the_pages_own(visit: Open) -> None:
    looked = visit()
    page = looked.go()
    ran = page.evaluate(
        """() => { const script = document.createElement("script");
                   try { script.textContent = "document.title = 'pwned'"; document.body.append(script); }
                   catch (error) { return error.name; }
                   return document.title; }"""
    )
    assert ran == "TypeError", "text can't become a script at all"
    looked.complaints.clear()  # the browser says that it refused
