"""All texts of the pages are in one file a language, and each language has all of them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Reader, Server, Start, new_reader

import fundusnet
from fundusnet.annotation.answers import REASONS
from fundusnet.annotation.api.account import label
from fundusnet.data.regions import REGIONS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

STATIC = Path(fundusnet.__file__).parent / "annotation" / "static"
LANGUAGES = {file.stem: json.loads(file.read_text()) for file in (STATIC / "texts").glob("*.json")}
SCRIPTS = {file.name: file.read_text() for file in STATIC.glob("*.js")}
PAGES = {file.name: file.read_text() for file in STATIC.glob("*.html")}
SHOWN = ("title", "aria-label", "placeholder", "alt")
IN_PAGES = re.compile(r'\bdata-(?:text|title|label|placeholder|alt)="([^"]+)"')


def slots(value: Any) -> list[set[str]]:
    """The values that a text, or each of its plural forms, names."""
    return [set(re.findall(r"\{(\w+)\}", one)) for one in (value.values() if isinstance(value, dict) else [value])]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_text(language: str) -> None:
    english, texts = LANGUAGES["en"], LANGUAGES[language]
    assert list(texts) == list(english), "the same keys in the same order"
    for key, value in texts.items():
        assert set.union(*slots(value)) == set.union(*slots(english[key])), key
        assert all(one.strip() for one in (value.values() if isinstance(value, dict) else [value])), key
    assert f'"{language}"' in SCRIPTS["text.js"], "the page knows of it"


# Words that are the same in English and another language.
ALIKE = {"de": {"Gamma", "normal", "Esc", "Name", "Temporal", "Drusen", "Link · fundusnet", "s", "min s"}}


@pytest.mark.parametrize("language", sorted({*LANGUAGES} - {"en"}))
def test_no_text_was_left_in_english(language: str) -> None:
    def forms(value: Any) -> set[str]:
        every = value.values() if isinstance(value, dict) else [value]
        words = {" ".join(re.sub(r"\{\w+\}", " ", one).split()) for one in every}
        return {one for one in words if re.search(r"[A-Za-z]", one)}

    left = {key: forms(value) & forms(LANGUAGES["en"][key]) for key, value in LANGUAGES[language].items()}
    assert set.union(*left.values()) == ALIKE[language]


def test_every_text_is_used_and_every_used_text_exists() -> None:
    used = {key for page in PAGES.values() for key in IN_PAGES.findall(page)}
    groups = set()
    for script in SCRIPTS.values():
        used |= {key for key in re.findall(r'"([a-z]+(?:[._-][\w.-]+)*)"', script) if key in LANGUAGES["en"]}
        used |= set(re.findall(r'\btext\(\s*"([^"]+)"', script))
        # The end of a key is a name that the server sends, or that the script has.
        groups |= set(re.findall(r"`((?:\w+\.)+)\$\{", script))
        groups |= {f"{group}." for group in re.findall(r'\bnameIn\("([\w.]+)"', script)}
        groups |= {f"{group}." for group in re.findall(r'\bnamed\("(\w+)"\)', script)}
    assert used <= set(LANGUAGES["en"]), "each of them exists"
    assert groups == {group for group in groups if any(key.startswith(group) for key in LANGUAGES["en"])}
    assert {key for key in LANGUAGES["en"] if not key.startswith(tuple(groups))} <= used, "none is left over"


def test_what_the_server_names_has_a_text() -> None:
    english = LANGUAGES["en"]
    for name in REGIONS.values():
        assert english[f"region.{name}"] == label(name)
    assert {key for key in english if key.startswith("reason.")} == {f"reason.{one}" for one in REASONS}


class _Texts(HTMLParser):
    """Collects what a page shows without a script: its text, and the attributes that people read or hear."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "img", "input", "br"):
            self.inside.append(tag)
        self.found += [value for name, value in attrs if name in SHOWN and value]

    def handle_endtag(self, tag: str) -> None:
        self.inside.pop()

    def handle_data(self, data: str) -> None:
        # Without a script there is no choice of language, and a key has one letter on every keyboard.
        if not {"noscript", "kbd"} & set(self.inside) and re.search(r"[A-Za-z]", data):
            self.found.append(data.strip())


@pytest.mark.parametrize("page", PAGES)
def test_no_text_is_in_a_page(page: str) -> None:
    texts = _Texts()
    texts.feed(PAGES[page])
    assert [text for text in texts.found if text != "fundusnet"] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_no_text_is_in_a_script(script: str) -> None:
    code = re.sub(r"/\*.*?\*/|(?<!:)//[^\n]*|new \w*Error\(.*?\)", "", SCRIPTS[script], flags=re.DOTALL | re.MULTILINE)
    literals = re.findall(r'"([^"\n]*)"|`([^`\n]*)`', code)
    sentence = re.compile(r"(^|[ :])[A-Z][a-z]+ [a-z]|[a-z], [a-z].*\.$")
    assert [one for pair in literals for one in pair if sentence.search(one)] == []


BRACKETED = "⟦⟧"
OUTSIDE = """() => {
    const found = [];
    const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const place = walk.currentNode.parentElement;
        if (!place.closest("kbd, code, noscript, script, .brand, textarea")) found.push(walk.currentNode.textContent);
    }
    for (const one of document.querySelectorAll("*")) {
        for (const name of ["title", "aria-label", "placeholder", "alt"]) found.push(one.getAttribute(name) ?? "");
    }
    return found;
}"""


@pytest.mark.browser
def test_all_that_a_german_reader_sees_is_from_the_german_file(browser: Browser, eyes: Path, start: Start) -> None:
    """The file is replaced by one whose texts stand in brackets; no letter may stand outside them."""
    asked = "questions={grade:{choices:[none,mild,severe],adjudicate:true},severity:{of:finding,choices:[mild,severe]}}"
    people = ("annotators=[anna,ben,carl]", "adjudicators=[ada]", "administrators=[max]")
    server = start(eyes, "data=csv", *people, asked)
    (server.folder / "guidelines").mkdir()
    (server.folder / "guidelines" / "general.md").write_text("1234")
    image_id = "eye00000"
    for name in ("anna", "ben", "carl"):
        reader = german(browser, server, name)
        reader.open(image_id=image_id)
        check(reader, image_id)
        keys = {"anna": ("5", "s", "Shift+Q", "1", "Shift+Q", "2"), "ben": ("n", "Shift+Q", "3"), "carl": ("u",)}
        reader.press(*keys[name])
        check(reader, image_id)
        reader.press("1" if name == "carl" else "Enter")
        reader.find(".toast").wait_for()
        check(reader, image_id)
        reader.wait_status("saved")
        if name == "ben":
            for other in range(1, 8):
                reader.save(f"eye{other:05d}", choices={"": {"grade": "mild"}})
            reader.tab.reload()
            reader.wait_ready()
            check(reader, image_id)
            assert reader.find("#notices").inner_text()
        if name == "anna":
            reader.press("?")
            check(reader, image_id)
            reader.press("Escape", "j")
            check(reader, image_id)
            reader.press("Escape", "i")
            reader.find("#guidelines h3").first.wait_for()
            check(reader, image_id)
            reader.press("Escape")
            reader.tab.click("#account")
            reader.tab.click("#device-link")
            reader.find("#account-dialog code").wait_for()
            check(reader, image_id, name)
            for page in ("overview", "adjudicate", "people"):  # of others
                reader.tab.goto(f"{server.address}/{page}")
                reader.find("#loading:visible, #message:visible", "Diese Seite ist für andere").wait_for()
                check(reader)
        reader.tab.context.close()
    ada = german(browser, server, "ada")
    ada.tab.goto(f"{server.address}/overview")
    ada.find("#ungradable li").wait_for()
    check(ada, image_id, "anna", "ben", "carl")
    ada.tab.goto(f"{server.address}/adjudicate#{image_id}/drusen")
    ada.find(".pane.decision .region.on").wait_for(state="attached")
    check(ada, image_id)
    ada.press("w", "Enter")
    check(ada, image_id)
    ada.find("#choices button").first.wait_for()
    check(ada, image_id)
    ada.press("Enter")
    check(ada, image_id)
    ada.press("2")
    check(ada, image_id)
    assert ada.problems == []
    ada.tab.context.close()
    check_people(german(browser, server, "max"), server, image_id)


def check_people(page: Reader, server: Server, image_id: str) -> None:
    """The page of an administrator, and a link that was used."""
    page.tab.goto(f"{server.address}/people")
    page.find("#people tr").first.wait_for()
    names = ("anna", "ben", "carl", "ada", "max", "zoe")
    check(page, *names)
    for name in ("zoe", "zoe", "max"):  # new; there already; there in another role
        page.tab.fill("#new-name", name)
        page.tab.click("#add button")
        page.find("#said", name).wait_for()
        check(page, *names)
    for does in ("Herausnehmen", "Wieder aufnehmen", "Abmelden", "Antworten"):
        page.tab.click(f'button[aria-label*="{does}"][aria-label*="anna"]')
        page.find("#answers-title" if does == "Antworten" else "#said", "anna").wait_for()
        times = page.find("#answers td:last-child").all_inner_texts()  # with the name of the month
        check(page, *names, *times)
    page.tab.goto(server.links["max"])
    page.find("h1").wait_for()
    check(page)
    assert page.problems == []
    page.tab.context.close()


def german(browser: Browser, server: Server, name: str) -> Reader:
    reader = new_reader(browser, server, locale="de-DE")

    def bracketed(route: Any) -> None:
        texts = route.fetch().json()
        put = lambda text: BRACKETED[0] + text + BRACKETED[1]  # noqa: E731
        inside = {
            key: {form: put(one) for form, one in text.items()} if isinstance(text, dict) else put(text)
            for key, text in texts.items()
        }
        route.fulfill(json=inside)

    reader.tab.route("**/static/texts/de.json", bracketed)
    reader.tab.goto(server.links[name])
    return reader


def check(reader: Reader, *data: str) -> None:
    """Nothing but the names of photographs and people stands outside the brackets."""
    assert reader.tab.evaluate("document.documentElement.lang") == "de"
    seen = reader.tab.evaluate(OUTSIDE)
    assert any(BRACKETED[0] in one for one in seen)
    for text in seen:
        rest = text
        while (less := re.sub(r"⟦[^⟦⟧]*⟧", "", rest)) != rest:
            rest = less
        for name in (*data, *[f"eye{number:05d}" for number in range(8)]):
            rest = rest.replace(name, "")
        assert not re.search(r"[A-Za-z]{2}", rest), text


@pytest.mark.browser
def test_a_browser_of_an_unknown_language_gets_english(browser: Browser, server: Any, link: str) -> None:
    reader = new_reader(browser, server, locale="mi-NZ").open(link)
    assert reader.find("#status").inner_text() == "Saved"
    assert reader.tab.title() == "Annotate · fundusnet"
    reader.tab.context.close()
