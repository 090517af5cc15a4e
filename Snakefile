# pissa-repro: model x method x rank x quantization -> tables and figures beside the paper's.
# The rules are in rules/, the Python in pissa_repro/, what runs in config/.
from snakemake.utils import min_version

min_version("9.12")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "docs/report/workflow.rst"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/cluster.smk"
include: "rules/fetch.smk"
include: "rules/admit.smk"
include: "rules/statistics.smk"
include: "rules/init.smk"
include: "rules/train.smk"
include: "rules/adopt.smk"
include: "rules/evaluate.smk"
include: "rules/study.smk"
include: "rules/exhibits.smk"


onstart:
    check_backends()
    check_cards()
    check_scoring()
    check_sinks()
    preload()


localrules:
    all,
    fetch_model,
    fetch_data,
    parity,
    base,
    collect,
    table,
    figure,
    studies,
    paper,
    train_all,


rule all:
    default_target: True
    input:
        exhibits.targets(SWEEP, "all"),


rule train_all:
    input:
        train_records,
