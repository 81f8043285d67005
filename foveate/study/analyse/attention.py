"""What the inserted attention of an arm did by the end of training, over its runs, in numbers and words."""

from collections.abc import Sequence
from dataclasses import replace

from foveate.metric import significant
from foveate.summary import NEGLIGIBLE, AttentionFound, AttentionState, Span, Verdict


def attention_found(states: Sequence[AttentionState]) -> AttentionFound | None:
    """Of the runs of one arm; None where none of them kept the state of its attention."""
    sites = [site for state in states for site in state.sites]
    if not sites:
        return None
    shares = [gate.saturated for site in sites for gate in site.gates.values() if gate.saturated is not None]
    strength = _span([abs(site.strength) for site in sites if site.strength is not None])
    found = AttentionFound(
        runs=len(states),
        sites=max(len(state.sites) for state in states),
        strength=strength,
        change=_span([site.change for site in sites if site.change is not None]),
        gates=len(sites),
        without_gradient=sum(site.blind for site in sites),
        batches=max(state.batches for state in states),
        constant=sum(site.is_constant for site in sites),
        saturated=sum(shares) / len(shares) if shares else None,
        off=all(site.is_off for site in sites),
        strength_text="" if strength is None else _range(strength),
        text="",
    )
    return replace(found, text=_text(found))


def with_attention(verdict: Verdict, found: AttentionFound | None) -> Verdict:
    """The verdict with what is to be said of the attention beside it."""
    if found is None:
        return verdict
    off = f"attention stayed off ({_off_in_words(found)})" if found.off else ""
    short = f"{verdict.short}; attention stayed off" if found.off else verdict.short
    return Verdict(verdict.word, short, "; ".join(filter(None, [verdict.text, off, found.text])))


def _span(values: list[float]) -> Span | None:
    return Span(sum(values) / len(values), min(values), max(values)) if values else None


def _text(found: AttentionFound) -> str:
    """ "weights of 2 of 9 gates got no gradient in the first 20 batches; 3 of 9 gates are constant over …" """
    gates = f"{found.gates} gates" + (f" ({found.sites} in each of {found.runs} seeds)" if found.runs > 1 else "")
    parts = []
    if found.without_gradient:
        parts.append(
            f"weights of {found.without_gradient} of {gates} got no gradient in the first {found.batches} batches"
        )
    if found.constant and not found.off:
        parts.append(f"{found.constant} of {gates} {_is(found.constant)} constant over the test items at the end")
    return "; ".join(parts)


def stayed_off(label: str, found: AttentionFound, plain: str) -> str:
    """The sentence of the answer for attention that does nothing; "" for attention that does."""
    if not found.off:
        return ""
    return (
        f"The attention of {label} stayed off: {_off_in_words(found)}, so it is {plain} that was compared with itself."
    )


def _off_in_words(found: AttentionFound) -> str:
    """ "it changes the features by less than 0.2 % at every site; its strength ends at 0.0004 at most" """
    text = f"it changes the features by less than {100 * NEGLIGIBLE:.1f} % at every site"
    if found.strength is not None:
        text += f"; its strength ends at {significant(found.strength.high, 2)} at most"
    return text


def _range(span: Span) -> str:
    mean, low, high = (significant(value, 2) for value in (span.mean, span.low, span.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
