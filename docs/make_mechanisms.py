"""Writes docs/mechanisms.md from the facts of each mechanism in the code; a test compares the two."""

from pathlib import Path

from foveate.attention import attention_facts, attention_options, list_attention

PAGE = Path(__file__).parent / "mechanisms.md"


def page() -> str:
    """The page's text."""
    lines = [
        "# Mechanisms",
        "",
        "Made by `docs/make_mechanisms.py` from the same source as `foveate show NAME`. C: channels, P: positions of",
        "the map, d: spatial axes; multiply-adds are a sample's.",
        "",
        "| name | works on | paper |",
        "|---|---|---|",
    ]
    facts = {name: attention_facts(name) for name in list_attention()}
    lines += [f"| [{name}](#{name}) | {f.domain} | {f.title} ({f.year}) |" for name, f in facts.items() if f]
    for name, known in facts.items():
        if known is None:
            continue
        options = ", ".join(f"`{key}={default!r}`" for key, default in attention_options(name).items())
        lines += [
            "",
            f"## {name}",
            "",
            f"{known.authors}, *{known.title}*, {known.source}.",
            "",
            f"    {known.equation}",
            "",
            f"* parameters: `{known.parameters}`",
            f"* multiply-adds: `{known.macs}`",
            *(f"* where `{key} = {expression}`" for key, expression in known.where.items()),
            f"* options: {options or 'none'}",
            *([f"* replaces: {known.replaces}"] if known.replaces else []),
        ]
        if known.deviations:
            lines += ["", "| point | paper | released code | here |", "|---|---|---|---|"]
            lines += [
                "| " + " | ".join(_cell(text) for text in (d.point, d.paper, d.official, d.ours)) + " |"
                for d in known.deviations
            ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
