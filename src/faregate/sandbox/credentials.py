"""The secrets that callers and providers share. Real ones come from settings; a seed derives a whole set.

Nothing is secret about a set that is derived from a published seed: it keeps the sandbox honest, not safe.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxCredentials:
    """One secret for each way in which a provider knows its caller, or its caller knows a provider."""

    bureau_api_key: str
    bureau_alt_user: str
    bureau_alt_password: str
    kyc_api_key: str
    kyc_callback_secret: str
    fraud_hmac_secret: str
    income_client_id: str
    income_client_secret: str
    income_callback_secret: str
    airline_a_token: str
    airline_b_secret: str
    hotel_c_key: str
    hotel_c_secret: str
    hotel_d_key: str

    @classmethod
    def derived(cls, seed: str) -> SandboxCredentials:
        """Return the set of a seed, always the same. `income_callback_secret` has the form `whsec_…`."""

        def secret(purpose: str) -> str:
            return hmac.digest(seed.encode(), purpose.encode(), hashlib.sha256).hex()

        webhook_key = base64.b64encode(bytes.fromhex(secret("income webhook"))).decode()
        return cls(
            bureau_api_key=secret("bureau"),
            bureau_alt_user="faregate",
            bureau_alt_password=secret("bureau_alt"),
            kyc_api_key=secret("kyc"),
            kyc_callback_secret=secret("kyc callback"),
            fraud_hmac_secret=secret("fraud"),
            income_client_id="faregate",
            income_client_secret=secret("income"),
            income_callback_secret=f"whsec_{webhook_key}",
            airline_a_token=secret("airline_a"),
            airline_b_secret=secret("airline_b"),
            hotel_c_key=secret("hotel_c key"),
            hotel_c_secret=secret("hotel_c"),
            hotel_d_key=secret("hotel_d"),
        )
