"""The dates of real certificates, made by OpenSSL, in both ways that a date is written."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime

import pytest

from reconciler.core.certificate import validity

V3 = b64decode(
    "MIIBcDCCARWgAwIBAgIUeE+97Rp3GfgpnkGYM6b5wCqq2f8wCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAgFw0y"
    "NjExMjUxNjExMzlaGA8yMTI2MTEwMTE2MTEzOVowDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEH"
    "A0IABDHkj2LLuaLVXb66G0lGT64rYXX2QkhTUI6sN2DCLTclA8+zmIRsDZo2tkBfQ/i+GCIhlFl8OwNoYWviksWu"
    "oVqjUzBRMB0GA1UdDgQWBBQcC6P0NwTsjwqpVxRV2TWFqlqMdzAfBgNVHSMEGDAWgBQcC6P0NwTsjwqpVxRV2TWF"
    "qlqMdzAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0kAMEYCIQCzMhAPiV+OCTksKtWCon4E4omuEDyX+bcT"
    "w+srh59gQAIhAKhpvGjyeervTOnsqUUEr/pby1+SsnwQQoF9cT3q0thv"
)
V1 = b64decode(
    "MIIBETCBuQIUdxvhcLq8SO8RZTbNyMcvHRx+vRYwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYTAeFw0yNjExMjUx"
    "NjExMzlaFw0yNjEyMDUxNjExMzlaMAwxCjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQx5I9i"
    "y7mi1V2+uhtJRk+uK2F19kJIU1COrDdgwi03JQPPs5iEbA2aNrZAX0P4vhgiIZRZfDsDaGFr4pLFrqFaMAoGCCqG"
    "SM49BAMCA0cAMEQCIGq6NDKDtIRTanLAWpxa6l4RemoqsPnCa4+RZtlqZkZCAiBY8x7pw3mbEm1bS4zhm7Zpn/8i"
    "chtxZbDiTqbTRArXrg=="
)
BEGIN = datetime(2026, 11, 25, 16, 11, 39, tzinfo=UTC)


@pytest.mark.parametrize(
    ("der", "last"),
    [
        (V3, datetime(2126, 11, 1, 16, 11, 39, tzinfo=UTC)),
        (V1, datetime(2026, 12, 5, 16, 11, 39, tzinfo=UTC)),
    ],
)
def test_the_dates_of_a_certificate(der: bytes, last: datetime) -> None:
    assert validity(der) == (BEGIN, last)


def test_a_year_of_two_digits_is_in_this_century_or_the_last() -> None:
    old = V1.replace(b"261125161139Z", b"500101000000Z").replace(b"261205161139Z", b"490101000000Z")
    assert [one.year for one in validity(old)] == [1950, 2049]


@pytest.mark.parametrize(
    "der",
    [
        b"no certificate at all",
        b"\x30\x02\x30\x00",
        V1.replace(b"261125161139Z", b"261325161139Z"),
        V1.replace(b"\x30\x1e\x17\x0d", b"\x31\x1e\x17\x0d"),
    ],
    ids=["text", "empty", "month 13", "a set"],
)
def test_what_is_no_certificate(der: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        validity(der)


def test_one_that_ends_before_its_dates_is_none_either() -> None:
    for end in range(V3.index(b"1101161139Z")):
        with pytest.raises(ValueError, match=r"."):
            validity(V3[:end])
