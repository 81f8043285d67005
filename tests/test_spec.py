"""Specifications: what is read, what is refused and how, what makes two runs the same."""

import pytest

from foveate.spec import DataSpec, Run, Study, Training, Variant
from foveate.study_file import check_study, read_study, study_toml


def run(**changes):
    values = {"network": "foveate:resnet8", "variant": Variant(attention="se"), "data": DataSpec(), "train": Training()}
    return Run(**(values | {"seed": 0} | changes))


def test_a_key_is_the_specification_and_not_the_label():
    assert run().key == run().key
    assert run().key == run(variant=Variant(attention="se", label="other")).key
    others = [
        run(seed=1),
        run(width=1.5),
        run(variant=Variant(attention="se", options={"reduction": 4})),
        run(variant=Variant(attention="se", init="identity")),
        run(train=Training(lr=0.2)),
        run(data=DataSpec(train_items=10)),
        run(fingerprint="x"),
    ]
    assert len({r.key for r in [run(), *others]}) == len(others) + 1


def test_the_plain_network_is_always_there_and_first():
    assert [v.name for v in check_study({"variants": [{"attention": "se"}]}).variants] == ["none", "se"]
    assert [v.name for v in check_study({"variants": [{"attention": "se"}, {}]}).variants] == ["none", "se"]


def test_a_study_written_as_toml_reads_back_the_same(tmp_path):
    study = Study(
        name='a "b" \\ c',
        seeds=(3, 7),
        variants=(Variant(), Variant(attention="cbam", options={"pools": ["avg"], "kernel_size": 3}, at=["a.*", "b"])),
        network_options={"widths": [8, 16, 32]},
        train=Training(lr=1e-5, amp=True),
    )
    path = tmp_path / "study.toml"
    path.write_text(study_toml(study), encoding="utf-8")
    assert read_study(path) == study


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = 3\n[train]\nepochz = 3\n", r"s\.toml:3: unknown key 'train.epochz'; did you mean 'epochs'\?"),
        ("sedes = 3\n", r"s\.toml:1: unknown key 'sedes'; did you mean 'seeds'\?"),
        ("[[variants]]\nattention = 'se'\n[[variants]]\nattention = 'eca'\noptons = {}\n", r"s\.toml:5: unknown key"),
        ("[train]\nlr = -1\n", r"s\.toml:2: train\.lr: Input should be greater than 0; got -1"),
        ("seeds = []\n", r"s\.toml:1: seeds: wanted 1 to 10,000 different seeds"),
        ("seeds = [1, 1]\n", r"s\.toml:1: seeds: wanted 1 to 10,000 different seeds"),
        ("control = 'cost'\n", r"s\.toml:1: control: Input should be 'size', 'latency' or 'none'; got 'cost'"),
        ("seeds = \n", r"s\.toml: not TOML: .*line 1"),
        ("[[variants]]\nattention='se'\n[[variants]]\nattention='se'\n", "two variants are both called 'se'"),
        ("[variants]\nattention='se'\n", r"s\.toml:1: variants: wanted a list of variants: \[\[variants\]\]"),
        ("seeds = 'three'\n", r"s\.toml:1: seeds: wanted a number of seeds, 1 to 10,000, or a list"),
        ("seeds = 0\n", r"s\.toml:1: seeds: wanted a number of seeds, 1 to 10,000, or a list"),
        ("[train]\nepochs = 3\nlr = inf\n", r"s\.toml:3: train\.lr: Input should be a finite number"),
        ("[data]\nlr = 3\n[train]\nx = 1\n", r"s\.toml:2: unknown key 'data\.lr'"),
        ("seeds = 2\ndata.sourc = 'x'\n", r"s\.toml:2: unknown key 'data\.sourc'; did you mean 'source'"),
        (
            "[[variants]]\n[[variants]]\nattention='se'\noptions={x=nan}\n",
            r"s\.toml:4: variants\.1\.options: option 'x'",
        ),
        (
            "[[variants]]\n[[variants]]\nattention='se'\noptions={x=2020-01-01}\n",
            r"s\.toml:4: .*finite number.*got datetime",
        ),
        (
            "[[variants]]\nattention='se'\n[[variants]]\ninit='identity'\n",
            r"s\.toml:3: variants\.1: attention 'none' is",
        ),
    ],
)
def test_mistakes_in_a_file_are_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_study(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_study(tmp_path / "none.toml")
