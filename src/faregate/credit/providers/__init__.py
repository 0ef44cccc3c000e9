"""Adapters of the providers of credit checks: one file each, all behind the gateway's `Adapter` protocol.

Retries, journals, limits and the choice of a provider do not belong here; they are the gateway's.
"""

from __future__ import annotations

from faregate.credit.providers.bureau import BureauAdapter
from faregate.credit.providers.bureau_alt import BureauAltAdapter
from faregate.credit.providers.fraud import FraudAdapter
from faregate.credit.providers.income import IncomeAdapter
from faregate.credit.providers.kyc import KycAdapter

__all__ = ["BureauAdapter", "BureauAltAdapter", "FraudAdapter", "IncomeAdapter", "KycAdapter"]
