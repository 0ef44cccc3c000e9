"""Who denies credit: the creditor, its federal agency, its consumer reporting agencies, from a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faregate.credit.domain.notice import Issuer, Party
from faregate.kernel.errors import InvalidError

ISSUER_FILE: Final = "issuer.json"


class IssuerFileInvalid(InvalidError):
    """The file that describes the creditor has another form than docs/howto/adverse-action.md says."""


class _Party(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_min_length=1)

    name: str
    address: str
    phone: str | None = None

    def party(self) -> Party:
        return Party(name=self.name, address=self.address, phone=self.phone)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, str_min_length=1)

    creditor: _Party
    federal_agency: str
    reporting_agencies: dict[str, _Party] = Field(default_factory=dict)


def load_issuer(path: Path) -> Issuer:
    """Return what a file says of the creditor; without a file nothing is known. Raises `IssuerFileInvalid`."""
    if not path.exists():
        return Issuer()
    try:
        found = _File.model_validate_json(path.read_bytes())
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise IssuerFileInvalid(f"{path}: {places}", path=str(path)) from None
    return Issuer(
        creditor=found.creditor.party(),
        federal_agency=found.federal_agency,
        reporting_agencies={name: agency.party() for name, agency in found.reporting_agencies.items()},
    )
