"""foveate list | show | sites: look before you train."""

import inspect
import json
from pathlib import Path
from typing import Annotated

import typer

from foveate.cli import parse
from foveate.cli.draw import draw_marked, marking, show_network
from foveate.cli.sample import Channels, Classes, Shape, Size, build, sample_shape
from foveate.registry import nearest
from foveate.variant import PLAIN

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str,
    typer.Argument(
        help="foveate:NAME, timm:NAME, torchvision:NAME, smp:NAME, hf:NAME or path.py:function.", show_default=False
    ),
]


def list_(
    pattern: Annotated[str, typer.Argument(help="A glob pattern.")] = "*",
    domain: Annotated[
        str | None,
        typer.Option(
            help="Only mechanisms that work on this: channel, spatial, mixed (both), kernel, self, transform, temporal."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the mechanisms and our own networks by name.

    Example: foveate list --domain mixed
    """
    from foveate.attention import DOMAINS, attention_facts, list_attention
    from foveate.networks import list_networks

    if domain is not None and domain not in DOMAINS:
        wanted = ", ".join(DOMAINS)
        raise ValueError(f"--domain: wanted one of {wanted}; got {domain!r}; {nearest(domain, DOMAINS)}")
    names, networks = list_attention(pattern), [] if domain else list_networks(pattern)
    if domain:
        names = [name for name in names if (facts := attention_facts(name)) and facts.domain == domain]
    if not names and not networks:
        what = "no mechanism" if domain else "nothing"
        where = f" that works on {domain}" if domain else ""
        raise LookupError(f"{what}{where} is called {pattern!r}; foveate list shows every name")
    if as_json:
        typer.echo(json.dumps({"attention": names, "networks": networks}))
        return
    for name in names:
        facts = attention_facts(name)
        typer.echo(f"{name:16} {facts.domain:9} {facts.title} ({facts.year})" if facts else name)
    if networks:
        typer.echo("networks: " + ", ".join(networks))


def show(
    name: Annotated[
        str, typer.Argument(help="A mechanism, a network, or a *.safetensors file of ours.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Show one mechanism: equation, paper, options, variants, costs, and where paper and code part.

    Or a network, by any name that a network has: its options, steps, attention. Or what a saved or converted network
    says of itself: how it is built, where its weights are from.

    Example: foveate show cbam
    """
    if name.endswith(".safetensors"):
        _show_file(name, as_json)
        return
    from dataclasses import asdict

    from foveate.attention import attention_class, attention_facts, attention_options, list_attention
    from foveate.networks import list_networks

    if ":" in name or name in list_networks():
        show_network(name, as_json)
        return
    if name not in list_attention():
        both = [*list_attention(), *list_networks()]
        raise LookupError(f"no attention and no network is called {name!r}; {nearest(name, both)}")

    cls, facts = attention_class(name), attention_facts(name)
    options = {
        key: None if default is inspect.Parameter.empty else default for key, default in attention_options(name).items()
    }
    if as_json:
        typer.echo(json.dumps({"name": name, "options": options, **(asdict(facts) if facts else {})}, default=str))
        return
    typer.echo(f"{name}: {facts.title if facts else cls.__name__}")
    if facts:
        typer.echo(f"  {facts.authors}, {facts.source} ({facts.year}); works on: {facts.domain}")
        typer.echo(f"  equation    {facts.equation}")
        if facts.replaces:
            typer.echo(f"  replaces    {facts.replaces} (at = the layers it replaces, replace = true)")
        typer.echo(f"  parameters  {facts.parameters}")
        typer.echo(f"  multiply-adds a sample  {facts.macs}")
        for key, expression in facts.where.items():
            typer.echo(f"    where {key} = {expression}")
    typer.echo("  options     " + ", ".join(f"{key}={default!r}" for key, default in options.items()))
    if facts and facts.deviations:
        typer.echo("  where paper, released code and this library part:")
        for deviation in facts.deviations:
            typer.echo(f"    {deviation.point}")
            typer.echo(f"      paper: {deviation.paper}; released: {deviation.official}; here: {deviation.ours}")
    typer.echo("")
    typer.echo(inspect.cleandoc(cls.__doc__ or "").split("\n\nSource:")[0])


def _show_file(path: str, as_json: bool) -> None:
    from foveate.saving import describe

    recipe = describe(path)
    if as_json:
        typer.echo(recipe.model_dump_json())
        return
    network = recipe.network
    typer.echo(f"{path}: {network.name}, {network.num_classes:,} classes, images of {network.in_channels} channels")
    for key, value in network.options.items():
        typer.echo(f"  {key} = {value!r}")
    for part in recipe.insertions:
        typer.echo(f"  {part.attention} at {part.site.name}")
    for key, value in recipe.about.items():
        typer.echo(f"  {key}: {value}")


def sites(
    model: Model,
    at: Annotated[
        str | None,
        typer.Option(
            help="block, block/2, stage, head, module, nonlocal-5, or glob patterns; several parted by commas."
        ),
    ] = None,
    attention: Annotated[
        str | None, typer.Option(help="A name, options after colons: show what it would add at each place.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it instead of the convolution or activation there.")
    ] = False,
    shape: Shape = None,
    image_size: Size = None,
    channels: Channels = None,
    num_classes: Classes = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the network with these places marked, .svg or .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the places of a network where attention can go, and what a mechanism would add there.

    Images, signals, clips and detectors.

    Example: foveate sites timm:resnet50 --at nonlocal-5 --attention nl:sub_sample=true
    """
    from dataclasses import asdict

    from foveate.insertion import draw, format_sites, insert
    from foveate.insertion import sites as find
    from foveate.networks import example_input
    from foveate.report import picture_path

    if picture is not None:
        picture_path(picture)
    sample = sample_shape(model, shape, image_size, channels, batch_size=2)
    network = build(model, sample, num_classes)
    where = at.split(",") if at and "," in at else at
    example = example_input(model, sample, batch_size=2)
    if attention is None:
        if replace:
            raise ValueError("--replace needs --attention NAME, such as --attention sk --at 'layer*.conv2'")
        found = find(network, example, where)
        drawn = f"{draw(network, example, where)}\n\n{format_sites(found)}"
        typer.echo(json.dumps([asdict(site) for site in found]) if as_json else drawn)
        if picture is not None:
            names = list(dict.fromkeys(site.name for site in found))
            insert(network, marking(), at=names, example=example)
            draw_marked(network, example, model, picture)
        return
    wanted = parse.attention(attention)
    if len(wanted) != 1 or wanted[0][0] == PLAIN:
        raise ValueError(f"--attention: wanted one mechanism, got {attention!r}; foveate cost compares several")
    name, options = wanted[0]
    report = insert(network, name, at=where, example=example, replace=replace, dry_run=True, **options)
    rows = [{**asdict(p.site), "attention": p.attention, "parameters": p.parameters, "macs": p.macs} for p in report]
    typer.echo(json.dumps(rows) if as_json else str(report))
    if picture is not None:
        insert(network, name, at=where, example=example, replace=replace, **options)
        draw_marked(network, example, model, picture)
