"""Named fault plans: how the world behaves in a demo, a benchmark or a fault run; the rates stand here."""

from __future__ import annotations

from typing import Any, Final

from faregate.sandbox.faults import FaultPlan

_LATENCY: Final = {
    "bureau": {"kind": "lognormal", "median_ms": 40, "sigma": 0.5, "max_ms": 2000},
    "bureau_alt": {"kind": "lognormal", "median_ms": 60, "sigma": 0.5, "max_ms": 2000},
    "kyc": {"kind": "lognormal", "median_ms": 10, "sigma": 0.3, "max_ms": 1000},
    "fraud": {"kind": "lognormal", "median_ms": 15, "sigma": 0.4, "max_ms": 1000},
    "income": {"kind": "lognormal", "median_ms": 10, "sigma": 0.3, "max_ms": 1000},
}
_PROCESSING: Final = {"kind": "lognormal", "median_ms": 150, "sigma": 0.6, "max_ms": 3000}
_ROUGH_RATES: Final = {
    "unavailable": 0.02,
    "limited": 0.01,
    "error_before": 0.01,
    "drop_before": 0.005,
    "late_work": 0.005,
    "error_after": 0.01,
    "drop_after": 0.01,
    "hang_after": 0.005,
    "malformed": 0.005,
    "wrong_schema": 0.005,
    "look_up_error": 0.02,
    "look_up_drop": 0.01,
    "look_up_malformed": 0.01,
    "callback_duplicate": 0.03,
    "callback_early": 0.02,
    "callback_late": 0.02,
    "callback_overtaken": 0.02,
    "callback_lost": 0.005,
    "callback_skewed": 0.02,
    "callback_stale": 0.01,
    "callback_wrong_signature": 0.01,
    "callback_malformed": 0.01,
}


_PARTNERS: Final = ("airline_a", "airline_b", "hotel_c", "hotel_d")
_ROUGH_AT_PARTNERS: Final = {
    "unavailable": 0.02,
    "limited": 0.01,
    "error_before": 0.01,
    "drop_before": 0.01,
    "late_work": 0.005,
    "error_after": 0.01,
    "drop_after": 0.01,
    "hang_after": 0.005,
    "malformed": 0.005,
    "wrong_schema": 0.005,
    "look_up_error": 0.02,
    "look_up_drop": 0.01,
    "look_up_malformed": 0.01,
    "partner_price_changed": 0.02,
    "partner_hold_ends_early": 0.01,
    "partner_cancel_refused": 0.02,
    "partner_accepted_only": 0.01,
}


def _plan(**behaviour: Any) -> FaultPlan:
    providers = {
        name: {"latency": latency, "processing": _PROCESSING, **behaviour}
        for name, latency in _LATENCY.items()
    }
    return FaultPlan.model_validate({"providers": providers})


PLANS: Final = {
    "instant": FaultPlan(),
    "calm": _plan(),
    "rough": _plan(rates=_ROUGH_RATES, hold_s=5.0, look_up_lag_s=0.2, late_work_s=0.5, callback_late_s=2.0),
}
"""`instant`: no latency, no fault. `calm`: latencies only. `rough`: about every eighth call meets a fault."""

PARTNER_PLANS: Final = {
    "calm": FaultPlan(),
    "rough": FaultPlan.model_validate(
        {
            "providers": {
                name: {
                    "latency": {"kind": "lognormal", "median_ms": 60, "sigma": 0.5, "max_ms": 2000},
                    "rates": _ROUGH_AT_PARTNERS,
                    "hold_s": 5.0,
                    "late_work_s": 0.5,
                }
                for name in _PARTNERS
            }
        }
    ),
}
"""The same for travel partners: about every eighth act of a `rough` one goes wrong in some way."""
