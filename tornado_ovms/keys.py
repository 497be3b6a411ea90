"""Files with API keys."""

from __future__ import annotations

from pathlib import Path

from tornado_ovms.core.access import Guard, Keys


def read_guard(inference: str | None, management: str | None) -> Guard:
    """The keys of these files, of which either may be None. Blocks.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds no key, or something that is none; the message has no part of a key.
    """
    return Guard(_read(inference), _read(management))


def _read(path: str | None) -> Keys | None:
    if path is None:
        return None
    try:
        return Keys.parse(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise OSError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{path}, {error}") from error
