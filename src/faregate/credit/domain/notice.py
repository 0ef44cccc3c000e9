"""Notices of adverse action: until when an applicant must be told of a denial. Sending them does not belong here."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

NOTICE_WITHIN: Final = timedelta(days=30)
"""From the completed application, or from the action on one that was decided before (12 CFR 1002.9(a)(1))."""
