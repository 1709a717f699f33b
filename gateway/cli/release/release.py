"""`gateway release`: the commands on reports on their way to patients, under one noun."""

from __future__ import annotations

import typer

from gateway.cli.release import deciding, delivering, looking

app = typer.Typer(no_args_is_help=True, help="Release of reports to patients: what is due, and what is decided.")

app.command()(looking.explain)
app.command()(looking.due)
app.command("list")(looking.list_)
app.command()(looking.board)
app.command()(deciding.hold)
app.command("end-hold")(deciding.end_hold)
app.command()(deciding.early)
app.command()(deciding.retract)
app.command()(deciding.review)
app.command("settle-patient")(deciding.settle_patient)
app.command()(deciding.stop)
app.command()(deciding.restart)
app.command("approve-retrospective")(deciding.approve_retrospective)
app.command()(deciding.settle)
app.command()(delivering.undeliverable)
app.command()(delivering.told)
app.command()(delivering.pause)
app.command("prolong-hold")(delivering.prolong_hold)
