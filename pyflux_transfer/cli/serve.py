"""`pyflux-transfer serve`: its options are the fields of the service's settings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from pyflux_transfer.cli.help import Command, Program
from pyflux_transfer.errors import ServiceError

_MISSING = "The service needs more packages ({}). Run: pip install 'pyflux-transfer[serve]'"
_SHOW = Annotated[bool, typer.Option("--show-config", help="Show the settings and end.")]
# The setting with which a heading of the help begins; the first ones are those people need first.
_HEADINGS = {
    "root_path": "Behind a proxy, TLS", "engine": "Computing", "max_body_bytes": "Limits",
    "api_keys": "Keys", "reload_model": "Running",
}  # fmt: skip
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add `serve` to a command line.

    Its options are made when it is called: they need packages that other commands do without.
    """

    @app.command("serve", cls=_Serve, context_settings=_PASS_ON, add_help_option=False)
    def _(context: typer.Context) -> None:
        """Serve a bundle over HTTP."""
        inner = _inner()
        # Wrong usage is left to who called: it becomes one line there.
        status = inner(args=context.args, prog_name=context.command_path, standalone_mode=False)
        raise typer.Exit(status or 0)


def _inner() -> Program:
    """Return a command line of the one command."""
    inner = Program(add_completion=False)
    inner.command()(_command())
    return inner


class _Serve(Command):
    """Shows a shell that completes it the options that it makes when it is called."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters; of the settings only where nothing is run."""
        if not ctx.resilient_parsing:
            return super().get_params(ctx)
        return typer.main.get_command(_inner()).get_params(ctx)


def _command() -> Any:
    """Return the command with one option a setting."""
    try:
        from pyflux_transfer.serving.settings import Settings
    except ModuleNotFoundError as error:
        raise ServiceError(_MISSING.format(error.name)) from None

    def serve(show_config: bool, **given: Any) -> None:
        """Serve a bundle over HTTP: POST /predict, and a page to drop photos on.

        Every option is also an environment variable, PYFLUX_PORT for --port. SIGTERM answers what
        was accepted and ends; SIGHUP loads the bundle and the API keys again.
        """
        _serve(show_config, {name: value for name, value in given.items() if value is not None})

    parameters, heading = [], None
    for name, row in Settings.model_fields.items():
        heading = _HEADINGS.get(name, heading)
        parameters.append(_parameter(name, row, heading))
    parameters.append(_keyword("show_config", _SHOW, False))
    serve.__annotations__ = {p.name: p.annotation for p in parameters}
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return serve


def _serve(show_config: bool, given: dict[str, Any]) -> None:
    from pyflux_transfer import bundle as bundles
    from pyflux_transfer.serving.settings import BUNDLE_LOADER, settings

    chosen = settings(**given)
    if show_config:
        print(json.dumps(chosen.shown(), indent=2))
        return
    if chosen.loader == BUNDLE_LOADER:
        bundles.describe(chosen.bundle)  # a wrong path ends here, with one line
    from pyflux_transfer.serving.server import run

    raise typer.Exit(run(chosen))


def _parameter(name: str, row: Any, heading: str | None) -> inspect.Parameter:
    """Turn a field into an option; without a default, so that the environment has a say."""
    if name == "bundle":
        argument = typer.Argument(help=row.description, show_default=False, metavar="BUNDLE")
        return _keyword(name, Annotated[str | None, argument], None)
    flag = f"--{name.replace('_', '-')}"
    default = "none" if row.default in (None, (), "") else row.default
    if isinstance(row.default, bool):
        option = typer.Option(
            f"{flag}/--no-{flag[2:]}", help=row.description, rich_help_panel=heading
        )
        return _keyword(name, Annotated[bool | None, option], None)
    text = f"{row.description} [default: {default}]"
    option = typer.Option(
        flag, help=text, hidden=name == "loader", show_default=False, rich_help_panel=heading,
        metavar=_value(row.annotation), autocompletion=_choices(row.annotation),
    )  # fmt: skip
    return _keyword(name, Annotated[str | None, option], None)


def _value(annotation: Any) -> str:
    """Return what stands for a setting's value: its choices, or a word for its type."""
    if choices := _choices(annotation):
        return "|".join(choices())
    return {int: "N", float: "X", Path | None: "FILE"}.get(annotation, "TEXT")


def _choices(annotation: Any) -> Callable[[], list[str]] | None:
    """Return what gives a setting's choices, None where it has none."""
    if get_origin(annotation) is not Literal:
        return None
    return lambda: list(get_args(annotation))


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, annotation=annotation, default=default)
