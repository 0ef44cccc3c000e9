"""The providers of credit checks: their credentials and their adapters."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

import aiohttp

from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.credit.handlers.checks import GatewayHooks
from faregate.credit.providers import (
    BureauAdapter,
    BureauAltAdapter,
    FraudAdapter,
    IncomeAdapter,
    KycAdapter,
)
from faregate.credit.store.artefacts import provider_policies_text
from faregate.entrypoints.bootstrap.site import identity_vault, tools
from faregate.gateway.contracts import Adapter
from faregate.gateway.declarations import Declarations
from faregate.gateway.last_check import CheckedRequest
from faregate.gateway.policy import Policies, ProviderPolicy, Route
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.sandbox.credentials import SandboxCredentials


def sandbox_credentials(settings: Settings) -> SandboxCredentials:
    """Return what the sandbox expects of its callers: what we send to the providers."""
    return SandboxCredentials(
        bureau_api_key=settings.bureau_api_key.get_secret_value(),
        bureau_alt_user=settings.bureau_alt_user,
        bureau_alt_password=settings.bureau_alt_password.get_secret_value(),
        kyc_api_key=settings.kyc_api_key.get_secret_value(),
        kyc_callback_secret=settings.kyc_callback_secret.get_secret_value(),
        fraud_hmac_secret=settings.fraud_hmac_secret.get_secret_value(),
        income_client_id=settings.income_client_id,
        income_client_secret=settings.income_client_secret.get_secret_value(),
        income_callback_secret=settings.income_callback_secret.get_secret_value(),
        airline_a_token=settings.airline_a_token.get_secret_value(),
        airline_b_secret=settings.airline_b_secret.get_secret_value(),
        hotel_c_key=settings.hotel_c_key.get_secret_value(),
        hotel_c_secret=settings.hotel_c_secret.get_secret_value(),
        hotel_d_key=settings.hotel_d_key.get_secret_value(),
    )


def adapters(settings: Settings, session: aiohttp.ClientSession) -> dict[str, Adapter]:
    """Return the adapter of each provider."""
    secrets, clock = sandbox_credentials(settings), SystemClock()
    made: list[Adapter] = [
        BureauAdapter(
            session=session, base_url=settings.provider_url("bureau"), api_key=secrets.bureau_api_key
        ),
        BureauAltAdapter(
            session=session,
            base_url=settings.provider_url("bureau_alt"),
            user=secrets.bureau_alt_user,
            password=secrets.bureau_alt_password,
        ),
        KycAdapter(session=session, base_url=settings.provider_url("kyc"), api_key=secrets.kyc_api_key),
        FraudAdapter(
            session=session,
            base_url=settings.provider_url("fraud"),
            hmac_secret=secrets.fraud_hmac_secret,
            clock=clock,
        ),
        IncomeAdapter(
            session=session,
            base_url=settings.provider_url("income"),
            client_id=secrets.income_client_id,
            client_secret=secrets.income_client_secret,
            clock=clock,
        ),
    ]
    return {adapter.capabilities.provider: adapter for adapter in made}


async def provider_session(stack: AsyncExitStack) -> aiohttp.ClientSession:
    """Open the connection pool to the providers."""
    connector = aiohttp.TCPConnector(limit=0, limit_per_host=128, keepalive_timeout=30)
    session = aiohttp.ClientSession(connector=connector, request_class=CheckedRequest)
    return await stack.enter_async_context(session)


def declarations(settings: Settings) -> Declarations:
    """Read how the providers are to be treated. Raises PolicyInvalid with the line of what is wrong."""
    text, source = provider_policies_text(settings.provider_policies)
    return Declarations(text, source=source)


def policies(known: Mapping[str, Adapter], declared: Mapping[str, ProviderPolicy]) -> Policies:
    """Return how each check is routed and each provider treated."""
    return Policies(
        routes={
            check: Route(check=check, providers=providers) for check, providers in PROVIDERS_OF_CHECK.items()
        },
        capabilities={name: adapter.capabilities for name, adapter in known.items()},
        providers=declared,
    )


def gateway_hooks(settings: Settings, rules: Policies) -> GatewayHooks:
    """Return what the gateway asks of credit, and what announces the requests that credit makes by it."""
    return GatewayHooks(
        tools=tools(),
        vault=identity_vault(settings),
        callback_url_of=lambda provider: f"{settings.public_url}/internal/providers/{provider}/callbacks",
        timeout_s_of=rules.timeout_s,
    )
