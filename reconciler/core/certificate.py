"""Until when a certificate is valid, read from its DER form.

In: the bytes of one X.509 certificate (RFC 5280). Out: its two dates, or ValueError.
It checks no signature and no name: that is the business of those who connect.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_LONG_LENGTH = 0x80


def validity(der: bytes) -> tuple[datetime, datetime]:
    """The first and the last moment of a certificate.

    Raises:
        ValueError: this is no certificate.
    """
    try:
        (_, certificate), *_ = _parts(der)
        (_, signed), *_ = _parts(certificate)
        fields = list(_parts(signed))
        # serial, algorithm, issuer, validity; a version stands before them, unless it is the first.
        tag, dates = fields[4 if fields[0][0] == _VERSION else 3]
        first, last = _parts(dates)
    except IndexError as error:
        raise ValueError("it ends too early") from error
    if tag != _SEQUENCE:
        raise ValueError("it has no dates")
    return _moment(*first), _moment(*last)


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a constructed value: tag and content."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length >= _LONG_LENGTH:
            size = length - _LONG_LENGTH
            length = int.from_bytes(data[at : at + size])
            at += size
        yield tag, data[at : at + length]
        at += length


def _moment(tag: int, content: bytes) -> datetime:
    """RFC 5280, 4.1.2.5: always in UTC and with seconds; years of two digits from 1950 to 2049."""
    text = content.decode("ascii")
    if tag == _UTC_TIME:
        text = f"{'19' if text[:2] >= '50' else '20'}{text}"
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
