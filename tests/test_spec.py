"""Specifications: what is read, what is refused and how, what makes two runs the same."""

import pytest
from pydantic import ValidationError

from foveate.spec import DataSpec, Metric, Run, Study, Training, Variant
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
        ("[train]\nlr = -1\n", r"s\.toml:2: train\.lr: wanted greater than 0; got -1"),
        ("seeds = []\n", r"s\.toml:1: seeds: wanted 1 to 10,000 different seeds"),
        ("seeds = [1, 1]\n", r"s\.toml:1: seeds: wanted 1 to 10,000 different seeds"),
        ("control = 'cost'\n", r"s\.toml:1: control: wanted 'size', 'macs', 'latency' or 'none'; got"),
        (
            "control = 'none'\ncontrols = ['conv']\n",
            r"controls go with control = 'size', 'macs' or 'latency'; got control",
        ),
        ("controls = ['conv', 'conv']\n", "wanted each form of a control once; got conv, conv"),
        ("controls = ['cnv']\n", r"s\.toml:1: controls\.0: wanted 'conv', 'wider'"),
        ("seeds = \n", r"s\.toml: not TOML: .*line 1"),
        ("[[variants]]\nattention='se'\n[[variants]]\nattention='se'\n", "two variants are both called 'se'"),
        ("[variants]\nattention='se'\n", r"s\.toml:1: variants: wanted a list of variants: \[\[variants\]\]"),
        ("seeds = 'three'\n", r"s\.toml:1: seeds: wanted a number of seeds, 1 to 10,000, or a list"),
        ("seeds = 0\n", r"s\.toml:1: seeds: wanted a number of seeds, 1 to 10,000, or a list"),
        ("[train]\nepochs = 3\nlr = inf\n", r"s\.toml:3: train\.lr: wanted a finite number"),
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
        ('until = "decided"', 'until = "decided" and max_seeds go together'),
        ("max_seeds = 9", 'until = "decided" and max_seeds go together'),
        ('until = "decided"\nmax_seeds = 4\nseeds = 5', "wanted at least the 5 seeds of seeds; got 4"),
        ('until = "decided"\nmax_seeds = 2\nseeds = 2', r"s\.toml:2: max_seeds: .* greater than or equal to 3"),
        ('until = "significant"\nmax_seeds = 9', r"s\.toml:1: until: .*'decided'; got 'significant'"),
        ("matters = -0.5", r"s\.toml:1: matters: .*greater than or equal to 0; got -0\.5"),
        ('[[variants]]\nattention = "se"\n[[compare]]\narm = "sa"', r"compare: no variant is called 'sa'; .*'?se"),
        ('[[compare]]\narm = "se"\nagianst = "eca"', "unknown key 'compare.0.agianst'; did you mean 'against'"),
        ('[[compare]]\nagainst = "plain"', r"compare\.0\.arm: Field required"),
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


class TestMetric:
    @pytest.mark.parametrize(
        ("metric", "value", "text"),
        [
            (Metric("accuracy"), 0.8417, "84.2 %"),
            (Metric("accuracy", shown="plain"), 0.8417, "0.842"),
            (Metric("error", "px", "lower"), 1.3666, "1.37 px"),
            (Metric("velocity", "m/s"), 1544.25, "1544 m/s"),
            (Metric("loss", "nats", "lower"), 0.00012345, "0.000123 nats"),
            (Metric("shift", "px", "lower"), -0.5, "−0.500 px"),
            (Metric("score", ""), 0.0, "0"),
            (Metric("tiny", ""), 1.5e-9, "1.50e−09"),
        ],
    )
    def test_a_value_is_shown_in_its_unit_with_three_digits_or_as_a_percentage(self, metric, value, text):
        assert metric.format(value) == text

    def test_a_gain_is_positive_where_ours_is_better_whatever_the_direction(self):
        assert Metric("accuracy").gain(0.75, 0.5) == 0.25
        assert Metric("error", "px", "lower").gain(1.0, 2.0) == 1.0
        assert Metric("error", "px", "lower").gain(2.0, 1.0) == -1.0

    def test_units_of_values_and_of_differences(self):
        assert (Metric("mIoU").shown_unit, Metric("mIoU").difference_unit) == ("%", "points")
        assert (Metric("error", "px").shown_unit, Metric("error", "px").difference_unit) == ("px", "px")
        plain = Metric("dice", shown="plain")
        assert (plain.shown_unit, plain.difference_unit) == ("", "")

    @pytest.mark.parametrize(
        "wrong",
        [{"better": "up"}, {"name": ""}, {"name": "a\nb"}, {"shown": "bars"}, {"unti": "px"}, {"name": "x" * 61}],
    )
    def test_a_wrong_direction_name_or_field_is_refused(self, wrong):
        with pytest.raises(ValidationError):
            Metric(**({"name": "error"} | wrong))

    def test_it_is_the_same_after_json_and_from_a_study_file(self, tmp_path):
        metric = Metric("map50", "", "lower")
        assert Metric.model_validate_json(metric.model_dump_json()) == metric
        (tmp_path / "s.toml").write_text(
            'trainer = "my.py:train"\nmetric = { name = "fid", better = "lower", unit = "" }\n'
        )
        assert read_study(tmp_path / "s.toml").metric == Metric("fid", "", "lower", "plain")


def test_a_field_that_a_later_version_adds_changes_no_key():
    class LaterTraining(Training):
        gradient_clip: float = 0.0

    class LaterRun(Run):
        train: LaterTraining
        repeats: int = 1

    values = {"network": "foveate:resnet8", "variant": Variant(attention="se"), "data": DataSpec(), "seed": 0}
    later = LaterRun(**values, train=LaterTraining())
    assert later.key == run().key
    assert LaterRun(**values, train=LaterTraining(), repeats=2).key != later.key
    assert LaterRun(**values, train=LaterTraining(gradient_clip=1.0)).key != later.key


def test_names_of_arms_and_places_of_files_change_no_key_and_their_contents_do():
    one = run(arm="se", fingerprint="f", data=DataSpec(source="/a/photos"), imports=("/a/my.py",), code_fingerprint="c")
    moved = one.model_copy(update={"arm": "x", "data": DataSpec(source="/b/photos"), "imports": ("/b/my.py",)})
    assert moved.key == one.key
    for part in ("fingerprint", "code_fingerprint", "weights_fingerprint"):
        assert one.model_copy(update={part: "other"}).key != one.key
    for part in ("network", "task", "trainer"):
        keys = {run(**{part: f"/{folder}/my.py:{name}"}).key for folder in "ab" for name in ("Net", "Other")}
        assert len(keys) == 2, "the file may lie anywhere; the name in it counts"
    assert run(data=DataSpec(source="/a/photos")).key != run(data=DataSpec(source="/b/photos")).key
    assert run(copy_number=1).key != run().key


def test_the_short_form_is_one_insertion():
    short = Variant(attention="cbam", options={"kernel_size": 3}, at="stage", init="identity", freeze=True, thaw=2)
    whole = Variant(
        insert=[{"attention": "cbam", "options": {"kernel_size": 3}, "at": "stage", "init": "identity"}],
        freeze=True,
        thaw=2,
    )
    assert short == whole == Variant.model_validate(short.short())
    assert short.name == "cbam (kernel_size=3, at=stage, identity) [frozen before epoch 2]"
    several = Variant(insert=({"attention": "se"}, {"attention": "sk", "at": "*.conv2", "replace": True}))
    assert several.name == "se + sk (at=*.conv2, replacing)"
    assert Variant.model_validate(several.short()) == several


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"insert": [{"attention": "se"}], "attention": "se"}, "wanted insert = .* got both"),
        ({"freeze": True}, "the plain network has no attention"),
        ({"attention": "se", "thaw": 2}, "thaw goes with freeze"),
        ({"attention": "se", "freeze": True, "thaw": 0}, "greater than or equal to 1"),
        ({"attention": "se", "attention_lr": 0}, "greater than 0"),
        ({"attention": "se", "label": "a\nb"}, "pattern"),
        ({"attention": "se", "options": {"reduction": None}}, "option 'reduction': wanted text"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        Variant(**values)


HOSTILE = [
    ("seeds = 1000000000000000000\n", r"s\.toml:1: seeds: wanted a number of seeds, 1 to 10,000"),
    ("seeds = [1000000000000000000]\n", r"s\.toml:1: seeds\.0: wanted less than 2147483648"),
    ("[train]\nepochs = 9223372036854775807\n", r"s\.toml:2: train\.epochs: wanted less than or equal to"),
    ("[train]\nbatch_size = 99999999\n", r"s\.toml:2: train\.batch_size"),
    ("[train]\nthreads = 100000\n", r"s\.toml:2: train\.threads"),
    ("[data]\ntrain_items = 1000000000000\n", r"s\.toml:2: data\.train_items"),
    ("[data]\nsize = 100000\n", r"s\.toml:2: data\.size"),
    ("[data]\nsize = [8, 8, 8, 8, 8]\n", r"s\.toml:2: data\.size"),
    ("name = '" + "x" * 100_000 + "'\n", r"s\.toml:1: name"),
    ("network = " + '"\\u001b[31mred\\n"' + "\nsedes = 1\n", r"s\.toml:2: unknown key 'sedes'"),
    ("'" + "x" * 100_000 + "' = 1\n", r"unknown key"),
    ('"a\\nb" = 1\n', r"unknown key"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_file_is_refused_in_one_short_line(tmp_path, text, message):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_study(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 600


def test_every_relative_path_of_a_file_counts_from_its_folder(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "s.toml").write_text(
        'network = "net.py:make"\ntask = "../task.py:Task"\ntrainer = "train.py:train"\nweights = "w.safetensors"\n'
        'imports = ["my.py", "/abs/other.py"]\n[data]\nkind = "data.py:open"\nsource = "photos"\n'
    )
    monkeypatch.chdir("/")
    study = read_study(tmp_path / "inside" / "s.toml")
    inside = tmp_path / "inside"
    assert study.network == f"{inside}/net.py:make"
    assert study.task == f"{tmp_path}/task.py:Task"
    assert study.trainer == f"{inside}/train.py:train"
    assert study.weights == f"{inside}/w.safetensors"
    assert study.imports == (f"{inside}/my.py", "/abs/other.py")
    assert (study.data.kind, study.data.source) == (f"{inside}/data.py:open", f"{inside}/photos")
    assert read_study(write_and_return(tmp_path / "again.toml", study_toml(study))) == study


def write_and_return(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_text_with_any_character_reads_back_the_same(tmp_path):
    study = Study(network_options={"a": 'quote " \\ \x7f \x01 tab\t line\n ü 🙂', "b": [[1, 2.5], {"c": True}]})
    assert read_study(write_and_return(tmp_path / "s.toml", study_toml(study))) == study


def test_an_arm_made_of_option_text_can_be_printed():
    variant = Variant.model_validate({"attention": "se", "options": {"gate": "a\x1b[31m\nb é"}})
    assert variant.name == r"se (gate=a\x1b[31m\nb é)"


def test_the_rate_of_the_strength_is_part_of_the_key_where_there_is_one(monkeypatch):
    runs = [run(variant=Variant(attention="se", init=init)) for init in ("paper", "identity")]
    before = [run.key for run in runs]
    monkeypatch.setattr("foveate.spec.STRENGTH_FACTOR", 3.0)
    assert runs[0].key == before[0]
    assert runs[1].key != before[1]
