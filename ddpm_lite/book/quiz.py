"""`quiz`: questions whose options open like drawers, each with its own reply; no kernel and no script is needed."""

from __future__ import annotations

from ._display import inline, put

Option = tuple[str, bool, str]
Question = tuple[str, list[Option]]

_STYLE = (
    "<style>:where(.dl-quiz details){margin:.25em 0;padding:.3em .7em;border:1px solid;border-radius:.35em}"
    ":where(.dl-quiz summary){cursor:pointer}:where(.dl-quiz details p){margin:.4em 0 .2em}"
    ":where(.dl-quiz ol){padding-left:1.5em}:where(.dl-quiz ol>li){margin-bottom:1em}</style>"
)
LETTERS = "abcdefghij"


def quiz(*questions: Question) -> None:
    """Display questions in the form ``(prompt, [(text, correct, reply), ...])``.

    Each option is a drawer that opens to its own reply, by mouse, touch or keyboard. ``$...$`` is maths and `...` is
    code. Raises ValueError unless every question has at least three options, exactly one of them correct, and every
    option a reply of its own; and when the correct option always stands in one place.
    """
    if not questions:
        raise ValueError("questions is empty: give at least one (prompt, [(text, correct, reply), ...])")
    places = {_check(prompt, options) for prompt, options in questions}
    if len(questions) > 2 and len(places) == 1:
        raise ValueError(f"questions: the correct option is always number {places.pop() + 1}; change the order")
    items = "".join(f"<li><p>{inline(p)}</p>{''.join(map(_drawer, LETTERS, options))}</li>" for p, options in questions)
    lines = [line for number, q in enumerate(questions, 1) for line in _lines(number, q)]
    put(f'{_STYLE}<div class="dl-quiz"><ol>{items}</ol></div>', "\n".join(lines))


def _check(prompt: str, options: list[Option]) -> int:
    """Return the place of the correct option; refuse a question that breaks a rule."""
    if len(options) < 3:
        raise ValueError(f"{prompt!r} has {len(options)} options: give at least 3")
    right = [i for i, (_, correct, _) in enumerate(options) if correct is True]
    if len(right) != 1:
        raise ValueError(f"{prompt!r} has {len(right)} correct options: mark exactly one True")
    texts, replies = [o[0].strip() for o in options], [o[2].strip() for o in options]
    if not all(texts) or len(set(texts)) < len(texts):
        raise ValueError(f"{prompt!r}: every option needs a text of its own")
    if not all(replies) or len(set(replies)) < len(replies):
        raise ValueError(f"{prompt!r}: every option needs a reply of its own")
    return right[0]


def _drawer(letter: str, option: Option) -> str:
    """Return one option as a drawer that opens to its reply; the letter names it where the rest is a formula."""
    text, correct, reply = option
    told = f"<strong>{'Yes.' if correct else 'No.'}</strong> {inline(reply)}"
    return f"<details><summary>({letter}) {inline(text)}</summary><p>{told}</p></details>"


def _lines(number: int, question: Question) -> list[str]:
    """Return a question as plain text, its replies after its options."""
    prompt, options = question
    asked = [f"  ({c}) {text}" for c, (text, _, _) in zip(LETTERS, options, strict=False)]
    told = [
        f"      {c}: {'Yes.' if right else 'No.'} {reply}"
        for c, (_, right, reply) in zip(LETTERS, options, strict=False)
    ]
    return [f"{number}. {prompt}", *asked, *told]
