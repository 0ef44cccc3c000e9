"""The providers of credit checks: one file each, all behind one small base class."""

from __future__ import annotations

from collections.abc import Mapping

from faregate.sandbox.credentials import SandboxCredentials
from faregate.sandbox.providers.base import Provider
from faregate.sandbox.providers.bureau import Bureau
from faregate.sandbox.providers.bureau_alt import BureauAlt
from faregate.sandbox.providers.fraud import Fraud
from faregate.sandbox.providers.income import Income
from faregate.sandbox.providers.kyc import Kyc


def all_providers(credentials: SandboxCredentials, *, token_life_s: int) -> Mapping[str, Provider]:
    """Return every provider by its name."""
    providers: tuple[Provider, ...] = (
        Bureau(api_key=credentials.bureau_api_key),
        BureauAlt(user=credentials.bureau_alt_user, password=credentials.bureau_alt_password),
        Kyc(api_key=credentials.kyc_api_key, callback_secret=credentials.kyc_callback_secret),
        Fraud(hmac_secret=credentials.fraud_hmac_secret),
        Income(
            client_id=credentials.income_client_id,
            client_secret=credentials.income_client_secret,
            callback_secret=credentials.income_callback_secret,
            token_life_s=token_life_s,
        ),
    )
    return {provider.statement.name: provider for provider in providers}
