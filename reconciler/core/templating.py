"""Filling in templates: Jinja in its sandbox, with every mistake at a template's own line.

In: templates by name, and what they may speak of. Out: text, or `TemplateFailedError`. A name that
is not known is a mistake and never empty text. It reads no file: a template sees the others that it
is given, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from traceback import walk_tb

from jinja2 import FunctionLoader, StrictUndefined, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from reconciler.core.text import printable

Sources = tuple[tuple[str, str], ...]
"""Templates by name, sorted."""


class TemplateFailedError(Exception):
    """A template that cannot be filled in: `NAME:LINE: what is wrong with it`."""


def fill_in(sources: Sources, name: str, context: Mapping[str, object]) -> str:
    """The text that the template `name` comes to.

    Raises:
        TemplateFailedError: it does not parse, speaks of what there is not, fails in any
            other way, or comes to what is no text in UTF-8.
    """
    try:
        text = _environment(sources).get_template(name).render(context)
        text.encode()
    except TemplateSyntaxError as error:
        raise TemplateFailedError(
            f"{error.name}:{error.lineno}: {printable(str(error))}"
        ) from error
    except Exception as error:
        # A template is a program of the user's: it may fail in ways that Jinja does not foresee.
        known = dict(sources)
        frames = ((frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__))
        # The innermost frame that is a template's.
        places = [f"{file}:{line}" for file, line in frames if file in known]
        said = printable(str(error)) or type(error).__name__
        raise TemplateFailedError(f"{places[-1] if places else name}: {said}") from error
    return text


@lru_cache(maxsize=32)
def _environment(sources: Sources) -> SandboxedEnvironment:
    """Templates that are compiled when they are first used: a watch renders them for months."""
    texts = dict(sources)
    return SandboxedEnvironment(
        loader=FunctionLoader(lambda name: _source(name, texts)),
        undefined=StrictUndefined,
        # Not HTML: each value is checked before, or goes through tojson.
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _source(name: str, templates: Mapping[str, str]) -> tuple[str, str, None] | None:
    # With its own name as its file's, so that a traceback tells the template and the line.
    return (templates[name], name, None) if name in templates else None
