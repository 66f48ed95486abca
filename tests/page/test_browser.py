"""Promise: the page works in a browser, without a network: its sliders move the pictures, and nothing complains."""

import importlib.util
import json
import os
import shutil
import time

import pytest
from results import registered

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
#: The bytes of a canvas.
PICTURE = "return document.getElementById(arguments[0]).toDataURL()"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(registered().html(), encoding="utf-8")
    return file.as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if BROWSER is None or DRIVER is None or importlib.util.find_spec("selenium") is None:
        missing = ("the page needs a browser: install the packages chromium and chromium-driver, and pip install "
                   "selenium")
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1300, 1000)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, address):
    browser.get(address)
    wait(lambda: browser.execute_script("return document.documentElement.dataset.ready === 'yes'"))
    wait(lambda: label(browser, "axial").endswith("the warped moving image"))
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events  # the browser asks for pages of its own, too
             if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"] == address]
    assert asked and all(url.startswith("data:") or url == address for url in asked)


def wait(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing happened for 30 s"
        time.sleep(0.02)


def label(page, plane):
    return page.find_element("id", plane).get_attribute("aria-label")


def picture(page, plane="axial"):
    return page.execute_script(PICTURE, plane)


def press(page, keys):
    """`keys`, and what the axial picture is once it has been drawn anew."""
    before = label(page, "axial"), picture(page)
    page.find_element("tag name", "body").send_keys(keys)
    wait(lambda: (label(page, "axial"), picture(page)) != before)
    return picture(page)


def test_a_slider_moves_its_own_plane(page):
    from selenium.webdriver.common.keys import Keys

    before = {plane: picture(page, plane) for plane in ("axial", "coronal", "sagittal")}
    page.find_element("id", "cross").click()  # its lines move in the other planes
    wait(lambda: picture(page) != before["axial"])
    before = {plane: picture(page, plane) for plane in before}
    slider = page.find_element("id", "slice-axial")
    number = int(slider.get_attribute("value"))
    slider.send_keys(Keys.ARROW_RIGHT)
    wait(lambda: picture(page) != before["axial"])
    assert f"slice {number + 2} of {int(slider.get_attribute('max')) + 1}" in label(page, "axial")
    assert all(picture(page, plane) == before[plane] for plane in ("coronal", "sagittal"))


def test_a_click_moves_the_other_planes(page):
    from selenium.webdriver.common.action_chains import ActionChains

    before = picture(page, "sagittal")
    canvas = page.find_element("id", "axial")
    ActionChains(page).move_to_element_with_offset(canvas, canvas.size["width"] // 4, 0).click().perform()
    wait(lambda: picture(page, "sagittal") != before)


def test_opacity_goes_from_the_fixed_to_the_moving_image(page):
    from selenium.webdriver.common.keys import Keys

    fixed, moving = press(page, "1"), press(page, "2")
    assert fixed != moving and picture(page) == moving
    blend = press(page, "3")
    slider = page.find_element("id", "opacity")
    slider.send_keys(Keys.HOME)
    wait(lambda: picture(page) == fixed)
    assert label(page, "axial").endswith("0 %")
    slider.send_keys(Keys.END)
    wait(lambda: picture(page) == moving)
    assert blend not in (fixed, moving)


def test_every_way_of_showing_is_another_picture(page):
    shown = [picture(page), *(press(page, key) for key in "1235")]
    assert press(page, "4") == shown[0]  # the checkerboard is what the page begins with
    shown += [press(page, key) for key in "xdjg"]
    assert len(set(shown)) == len(shown)
    assert "before registration" in label(page, "axial") and "volume change" in label(page, "axial")
    assert page.find_element("id", "legend-jacobian").is_displayed()
    assert not page.find_element("id", "legend-displacement").is_displayed()


def test_blinking_goes_to_and_fro_until_it_is_stopped(page):
    fixed, moving = press(page, "1"), press(page, "2")
    page.find_element("id", "blink").click()
    for wanted in (fixed, moving, fixed):
        wait(lambda wanted=wanted: picture(page) == wanted)
    page.find_element("id", "blink").click()
    wait(lambda: picture(page) == moving)
    assert page.find_element("id", "blink").get_attribute("aria-pressed") == "false"


def test_light_and_dark(page):
    def paper():
        return page.execute_script("return getComputedStyle(document.body).backgroundColor")

    before = paper()
    page.find_element("id", "theme").click()
    assert paper() != before
    page.find_element("id", "theme").click()
    assert paper() == before


def test_all_that_can_be_used_has_a_name_and_comes_by_tab(page):
    nameless = page.execute_script("""
        return [...document.querySelectorAll("button, input, canvas, svg")].filter((element) =>
          !(element.getAttribute("aria-label") || element.textContent.trim() || element.closest("label")
            || document.querySelector(`label[for="${element.id}"]`))).map((element) => element.outerHTML)""")
    assert nameless == []
    from selenium.webdriver.common.keys import Keys

    reached = set()
    for _ in range(16):
        page.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(page.switch_to.active_element.get_attribute("id") or
                    page.switch_to.active_element.get_attribute("name"))
    assert {"theme", "mode", "time", "map", "opacity", "blink", "grid", "slice-axial", "slice-sagittal"} <= reached


def test_it_fits_a_telephone(page):
    page.set_window_size(500, 900)
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    page.set_window_size(1300, 1000)
