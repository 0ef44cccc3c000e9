"""`faregate review`: the queue of manual reviews, and what a reviewer does to one of them.

Looking needs no key: whoever may run commands here reads the tables anyway. Acting does, your own
(FAREGATE_REVIEW_KEY): who decides, and who confirms, is told by it and by nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from faregate.entrypoints.output import Json, echo_json, print_rows
from faregate.entrypoints.servers import on_site

if TYPE_CHECKING:
    from faregate.credit.api import ReviewApi
    from faregate.entrypoints.bootstrap.site import Site

Form = TypeVar("Form", bound=BaseModel)

app = typer.Typer(
    no_args_is_help=True,
    help="Manual review: the queue, claims, decisions, new pulls.",
    epilog="Example: faregate review list --priority high",
)

ReviewId = Annotated[str, typer.Argument(help="The review, as `faregate review list` names it.")]
Fence = Annotated[int, typer.Option(help="The number of your claim, as `claim` printed it.")]
Revision = Annotated[int, typer.Option(help="The revision of the review that you read.")]
Note = Annotated[str, typer.Option(help="Why, in words. Name no person.")]


@app.command("list", epilog="Example: faregate review list --priority high --order amount")
def list_reviews(
    order: Annotated[str, typer.Option(help="What comes first: due, opened or amount.")] = "due",
    state: Annotated[str | None, typer.Option(help="Only in this state: open or proposed.")] = None,
    priority: Annotated[str | None, typer.Option(help="Only urgent, high, normal or low.")] = None,
    cause: Annotated[str | None, typer.Option(help="Only for this cause, such as check_missing.")] = None,
    claimed: Annotated[bool | None, typer.Option(help="Only those that somebody holds, or nobody.")] = None,
    new_facts: Annotated[bool | None, typer.Option(help="Only with facts since the decision.")] = None,
    overdue: Annotated[bool | None, typer.Option(help="Only those that have waited too long.")] = None,
    limit: Annotated[int, typer.Option(help="Most lines.")] = 50,
    as_json: Json = False,
) -> None:
    """List the reviews that are not decided, what is due first at the top."""
    from faregate.credit.routes import review_forms as forms
    from faregate.credit.routes.reviews import wanted_of

    given: dict[str, Any] = {
        "order": order,
        "state": state,
        "priority": priority,
        "cause": cause,
        "claimed": claimed,
    }
    given |= {"new_facts": new_facts, "overdue": overdue, "limit": limit}
    form = _form(forms.QueueForm, given)

    async def act(reviews: ReviewApi) -> list[dict[str, Any]]:
        return [forms.QueueEntryAnswer.of_line(line) for line in await reviews.queue(wanted_of(form))]

    lines = _read(act)
    shown = ("review_id", "priority", "cause", "amount", "state", "claimed_by", "due_at", "has_new_facts")
    print_rows(
        lines if as_json else [{name: line[name] for name in shown} for line in lines], as_json=as_json
    )


@app.command("stats", epilog="Example: faregate review stats --json")
def stats(as_json: Json = False) -> None:
    """Show how many reviews of each priority wait, and how long the oldest has."""

    async def act(reviews: ReviewApi) -> list[dict[str, Any]]:
        from faregate.credit.routes.review_forms import QueueLineAnswer

        return [QueueLineAnswer.of(line) for line in await reviews.lines()]

    lines = _read(act)
    print_rows([{**line, "oldest_s": round(line["oldest_s"])} for line in lines], as_json=as_json)


@app.command("show", epilog="Example: faregate review show rev_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def show_review(review_id: ReviewId, as_json: Json = False) -> None:
    """Show all that is needed to decide a review; nothing in it names the applicant."""

    async def act(reviews: ReviewApi) -> dict[str, Any]:
        from faregate.credit.routes.review_forms import FileAnswer

        return FileAnswer.of(await reviews.file(review_id))

    file = _read(act)
    if as_json:
        echo_json(file)
    else:
        _print_file(file, console=Console())


@app.command("next", epilog="Example: faregate review next --priority urgent")
def next_review(
    priority: Annotated[str | None, typer.Option(help="Only urgent, high, normal or low.")] = None,
    as_json: Json = False,
) -> None:
    """Claim the review that is due first."""
    _do("next", {"priority": priority}, as_json=as_json)


@app.command("claim", epilog="Example: faregate review claim rev_01J3R2J7F1TQ0K6W6N8A4X9V7R")
def claim(review_id: ReviewId, as_json: Json = False) -> None:
    """Claim a review; what you do to it then names the printed fence and revision."""
    _do("claim", {}, review_id=review_id, as_json=as_json)


@app.command("extend", epilog="Example: faregate review extend rev_01J3R2J7F1TQ0K6W6N8A4X9V7R --fence 1")
def extend(review_id: ReviewId, fence: Fence, as_json: Json = False) -> None:
    """Keep your claim for one more lease."""
    _do("extend", {"fence": fence}, review_id=review_id, as_json=as_json)


@app.command("release", epilog="Example: faregate review release rev_01J3R2J7F1TQ0K6W6N8A4X9V7R --fence 1")
def release(review_id: ReviewId, fence: Fence, as_json: Json = False) -> None:
    """Give a review back to the queue."""
    _do("release", {"fence": fence}, review_id=review_id, as_json=as_json)


@app.command("prioritise", epilog="Example: faregate review prioritise rev_01J… --priority high --note '…'")
def prioritise(
    review_id: ReviewId,
    priority: Annotated[str, typer.Option(help="urgent, high, normal or low.")],
    note: Note,
    as_json: Json = False,
) -> None:
    """Set the priority of a review; rules then leave it alone."""
    _do("prioritise", {"priority": priority, "reason": note}, review_id=review_id, as_json=as_json)


@app.command(
    "decide",
    epilog="Example: faregate review decide rev_01J… --fence 1 --revision 1 --outcome denied "
    "--code LENGTH_OF_EMPLOYMENT --note 'three months in the present job'",
)
def decide(
    review_id: ReviewId,
    fence: Fence,
    revision: Revision,
    outcome: Annotated[str, typer.Option(help="approved or denied.")],
    code: Annotated[list[str], typer.Option(help="A reason code; may be repeated, the weightiest first.")],
    note: Note,
    as_json: Json = False,
) -> None:
    """Decide, or propose where a second person has to confirm."""
    body = {"fence": fence, "revision": revision, "outcome": outcome, "reason_codes": code, "note": note}
    _do("decide", body, review_id=review_id, as_json=as_json)


@app.command("confirm", epilog="Example: faregate review confirm rev_01J… --fence 2 --revision 1 --note '…'")
def confirm(review_id: ReviewId, fence: Fence, revision: Revision, note: Note, as_json: Json = False) -> None:
    """Confirm what somebody else proposed, which decides."""
    body = {"fence": fence, "revision": revision, "note": note}
    _do("confirm", body, review_id=review_id, as_json=as_json)


@app.command("reject", epilog="Example: faregate review reject rev_01J… --fence 2 --revision 1 --note '…'")
def reject(review_id: ReviewId, fence: Fence, revision: Revision, note: Note, as_json: Json = False) -> None:
    """Reject what somebody else proposed; the review goes back to the queue."""
    body = {"fence": fence, "revision": revision, "note": note}
    _do("reject", body, review_id=review_id, as_json=as_json)


@app.command(
    "reevaluate", epilog="Example: faregate review reevaluate rev_01J… --fence 1 --revision 2 --note '…'"
)
def reevaluate(
    review_id: ReviewId, fence: Fence, revision: Revision, note: Note, as_json: Json = False
) -> None:
    """Let the active rules decide again on what is known now; no provider is asked."""
    body = {"fence": fence, "revision": revision, "note": note}
    _do("reevaluate", body, review_id=review_id, as_json=as_json)


@app.command("repull", epilog="Example: faregate review repull rev_01J… --check bureau --note '…'")
def repull(
    review_id: ReviewId,
    note: Note,
    check: Annotated[list[str] | None, typer.Option(help="A check to pull again; may be repeated.")] = None,
    authorise: Annotated[
        str | None, typer.Option(help="Authorise this request of somebody else's instead.")
    ] = None,
    reject: Annotated[
        str | None, typer.Option(help="Reject this request of somebody else's instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask for a new pull of checks, or answer what somebody else asked for."""
    if sum(map(bool, (check, authorise, reject))) != 1:
        raise typer.BadParameter("give one of --check, --authorise and --reject")
    if check:
        body = {"checks": check, "reason": note}
        _do("ask-repull", body, review_id=review_id, as_json=as_json)
        return
    name, repull_id = ("authorise-repull", authorise) if authorise else ("reject-repull", reject)
    _do(name, {"note": note}, review_id=review_id, repull_id=str(repull_id), as_json=as_json)


def _read(act: Callable[[ReviewApi], Awaitable[Any]]) -> Any:
    async def work(stack: AsyncExitStack, site: Site) -> Any:
        return await act(await _reviews(stack, site))

    return on_site(work)


def _do(name: str, body: Mapping[str, Any], *, as_json: bool, **names: str) -> None:
    """Do what the route of this name does, as the holder of the key in the settings, and print the answer."""
    from faregate.credit.routes.review_acts import ACTS, Turn
    from faregate.infra.http.authentication import Authenticator, Unauthenticated

    [act] = [act for act in ACTS if act.name == name]
    form = _form(act.form, body)

    async def work(stack: AsyncExitStack, site: Site) -> dict[str, Any]:
        key = site.settings.review_key
        if key is None:
            raise Unauthenticated("set FAREGATE_REVIEW_KEY to your own API key")
        authenticator = Authenticator(database=await site.database(stack, "access", connections_max=1))
        caller = await authenticator.require(act.scope).of_token(key.get_secret_value())
        reviews = await _reviews(stack, site)
        async with reviews.database.transaction() as conn:
            turn = Turn(reviews=reviews, conn=conn, reviewer=caller.client_id, names=names)
            return await act.work(turn, form)

    answer = on_site(work)
    if as_json:
        echo_json(answer)
    else:
        _print_answer(answer)


def _form(model: type[Form], given: Mapping[str, Any]) -> Form:
    """Return the options as the form that a route takes; one that does not fit is a usage error with its name."""
    from faregate.infra.http.body import ValidationFailed, validate

    try:
        return validate(model, dict(given))
    except ValidationFailed as error:
        fields = [f"{e['field']}: {e['message']}" for e in error.facts["errors"]]
        raise typer.BadParameter("; ".join(fields)) from None


async def _reviews(stack: AsyncExitStack, site: Site) -> ReviewApi:
    from faregate.entrypoints.bootstrap.providers import adapters, provider_session
    from faregate.entrypoints.bootstrap.review import review_api

    known = adapters(site.settings, await provider_session(stack))
    return review_api(await site.database(stack, "credit"), site, known)


def _print_answer(answer: Mapping[str, Any]) -> None:
    """Print what changed, a line each; what is not set is left out."""
    for name, value in {**answer, **answer.get("review", {})}.items():
        if value is not None and not isinstance(value, dict):
            typer.echo(f"{name:22} {value}")


def _print_file(file: Mapping[str, Any], *, console: Console) -> None:
    review, rules = file["review"], file["by_rules"]
    console.print(
        f"[bold]{review['review_id']}[/bold]  {review['state']}  {review['cause']}  {review['priority']}"
        f"  revision {review['revision']}  due {review['due_at']:%Y-%m-%d %H:%M}"
    )
    console.print(", ".join(f"{name} {value}" for name, value in file["application"].items()))
    signals = Table("check", "status", "reason", "facts", title="Signals")
    for signal in file["signals"]:
        facts = ", ".join(f"{name} {value}" for name, value in signal["facts"].items())
        signals.add_row(signal["check"], signal["status"], signal["reason"], facts)
    console.print(signals)
    console.print(f"The rules say now: [bold]{rules['outcome']}[/bold], {', '.join(rules['reason_codes'])}")
    points = rules["trace"]["scorecard"]["contributions"]
    console.print("Score: " + ", ".join(f"{fact} {value:+}" for fact, value in points.items() if value))
    for outcome, because in file["second_person"].items():
        if because:
            console.print(f"To be {outcome} it takes a second person: {because}")
    trail = Table("at", "who", "what", title="What happened")
    for entry in file["audit_trail"]:
        trail.add_row(f"{entry['at']:%Y-%m-%d %H:%M:%S}", entry["actor"], entry["action"])
    console.print(trail)
