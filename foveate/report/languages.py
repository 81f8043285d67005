"""The page in another language: its texts, sentence by sentence, from one catalogue a language.

The page is made in English, with the sentences of the analysis in it; a catalogue has each text once, {a}, {b}, … in
place of numbers, names and phrases, which are looked up in turn. What stands in no catalogue stays English, is marked
so, and is said at the foot of the page.
"""

import functools
import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape, unescape
from importlib import resources

from foveate.registry import nearest

LANGUAGES = {"en": "en", "zh": "zh-CN"}
FOOT = "Texts that have no translation yet stand in English"
UNTOUCHED = ("style", "pre", "script")
SPOKEN = ("alt", "data-label", "aria-label")  # attributes that people read
LONG = 200  # characters; a longer text is cut at full stops before it is looked up
_VOID = ("meta", "link", "br", "img", "input")
_WORDS = re.compile(r"[A-Za-z]{2}")
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])")
_TAG = re.compile(r"<(/?)([\w-]+)([^>]*?)(/?)>|<!doctype[^>]*>", re.IGNORECASE)


def check_language(language: str) -> str:
    """The language itself. Raises: ValueError: there is no catalogue of it."""
    if language not in LANGUAGES:
        raise ValueError(f"--lang: wanted {' or '.join(LANGUAGES)}; got {language!r}; {nearest(language, LANGUAGES)}")
    return language


@dataclass(frozen=True)
class Pattern:
    """A text of the catalogue with places to fill: the pieces between them, its expression, and what it becomes."""

    pieces: tuple[str, ...]
    expression: re.Pattern[str]
    text: str

    def match(self, sentence: str) -> re.Match[str] | None:
        if not all(piece in sentence for piece in self.pieces):
            return None
        return self.expression.fullmatch(sentence)


@dataclass
class Catalogue:
    """Texts of a language. names: what is a name, to be left as it is; missing: texts that were asked for in vain."""

    exact: dict[str, str]
    patterns: list[Pattern]
    names: frozenset[str] = frozenset()
    missing: dict[str, None] = field(default_factory=dict)
    _known: dict[str, str | None] = field(default_factory=dict)

    def text(self, text: str) -> str | None:
        """A whole text node; None where a part of it has no translation."""
        parts = [self._sentence(part) for part in _SENTENCES.split(text)]
        if any(part is None for part in parts):
            self.missing[text] = None
            return None
        return "".join(part for part in parts if part is not None)

    def _sentence(self, sentence: str) -> str | None:
        if sentence not in self._known:
            self._known[sentence] = None  # a text is no part of itself
            self._known[sentence] = self._look_up(sentence)
        return self._known[sentence]

    def _look_up(self, sentence: str) -> str | None:
        if self._is_name(sentence) or not _WORDS.search(sentence):
            return sentence
        if sentence in self.exact:
            return self.exact[sentence]
        if len(sentence) > LONG and ". " in sentence:  # sentences that begin with a name in small letters
            parts = [self._sentence(f"{part}.") for part in sentence.removesuffix(".").split(". ")]
            if all(part is not None for part in parts):
                return "".join(part for part in parts if part is not None)
        for pattern in self.patterns:
            if found := pattern.match(sentence):
                filled = {name: self._sentence(value) for name, value in found.groupdict().items()}
                if all(value is not None for value in filled.values()):
                    return pattern.text.format(**filled)
        for end, ours in ((".", "。"), (":", "：")):
            if sentence.endswith(end) and (found_ := self._sentence(sentence[:-1])) is not None:
                return found_ + ours
        for between, ours in (("; ", "；"), (". ", "。"), (": ", "："), (", ", "，")):
            if len(split(sentence, between)) > 1:
                parts = [self._sentence(part) for part in split(sentence, between)]
                if all(part is not None for part in parts):
                    return ours.join(part for part in parts if part is not None)
        return None

    def _is_name(self, text: str) -> bool:
        """Is it a name, whole or with its middle left out?"""
        start, cut, end = text.partition("…")
        return text in self.names or bool(
            cut and any(name.startswith(start) and name.endswith(end) for name in self.names)
        )


def split(text: str, between: str) -> list[str]:
    """The parts of a text between separators that stand in no brackets."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        depth += (text[at] in "([") - (text[at] in ")]")
        if depth == 0 and text.startswith(between, at):
            parts.append(text[start:at])
            at += len(between)
            start = at
        else:
            at += 1
    return [*parts, text[start:]]


@functools.cache
def _read(language: str) -> tuple[dict[str, str], list[Pattern]]:
    file = resources.files("foveate.report") / f"{language}.toml"
    texts: dict[str, str] = tomllib.loads(file.read_text(encoding="utf-8"))
    exact = {text: ours for text, ours in texts.items() if "{" not in text}
    placed = sorted((text for text in texts if "{" in text), key=lambda text: -len(re.sub(r"{\w}", "", text)))
    patterns = []
    for text in placed:
        expression = re.sub(r"\\{(\w)\\}", r"(?P<\1>.+?)", re.escape(text))
        pieces = tuple(filter(None, re.split(r"{\w}", text)))
        patterns.append(Pattern(pieces, re.compile(expression, re.DOTALL), texts[text]))
    return exact, patterns


def catalogue(language: str, names: Collection[str] = ()) -> Catalogue:
    """The catalogue of a language. names: of arms, metrics, classes, items, which are left as they are."""
    exact, patterns = _read(check_language(language))
    return Catalogue(exact, patterns, frozenset(names))


def translated(html: str, language: str, names: Collection[str] = ()) -> tuple[str, list[str]]:
    """A page of ours in another language, and the texts that its catalogue lacks.

    Elements with translate="no" are left as they are, as are styles and what is preformatted.

    Raises: ValueError: there is no catalogue of the language.
    """
    if check_language(language) == "en":
        return html, []
    words = catalogue(language, names)
    made: list[str] = []
    open_: list[bool] = []  # of each open element: is its text left as it is?
    last = 0
    drawn = 0  # open SVG elements
    for tag in _TAG.finditer(html):
        made.append(_of_text(html[last : tag.start()], words, bool(open_ and open_[-1]), in_figure=drawn > 0))
        last = tag.end()
        closing, name, attributes, alone = tag.group(1), (tag.group(2) or "").lower(), tag.group(3) or "", tag.group(4)
        left = bool(open_ and open_[-1])
        made.append(tag.group() if closing or left else _of_tag(tag.group(), words))
        if not name:
            continue
        if closing:
            open_.pop()
            drawn -= name == "svg"
        elif not alone and name not in _VOID:
            open_.append(left or name in UNTOUCHED or 'translate="no"' in attributes)
            drawn += name == "svg"
    made.append(html[last:])
    page = "".join(made).replace('<html lang="en">', f'<html lang="{LANGUAGES[language]}">')
    if words.missing:
        page = page.replace("</footer>", f" {words.exact[FOOT]}。</footer>")
    return page, list(words.missing)


def _of_text(text: str, words: Catalogue, left: bool, *, in_figure: bool) -> str:
    inside = text.strip()
    if left or not inside or not _WORDS.search(inside):
        return text
    found = words.text(" ".join(unescape(inside).split()))
    start, end = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    if found is not None:
        return f"{start}{escape(found)}{end}"
    return text if in_figure else f'{start}<span lang="en">{inside}</span>{end}'


def _of_tag(tag: str, words: Catalogue) -> str:
    def replaced(match: re.Match[str]) -> str:
        found = words.text(unescape(match.group(2)))
        return match.group() if found is None else f'{match.group(1)}="{escape(found)}"'

    return re.sub(rf'\b({"|".join(SPOKEN)})="([^"]*[A-Za-z]{{2}}[^"]*)"', replaced, tag)
