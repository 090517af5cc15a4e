# pissa-repro: model x method x rank x quantization -> tables and figures beside the paper's.
# The rules are in rules/, the Python in pissa_repro/, what runs in config/.
from snakemake.utils import min_version

min_version("9.12")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "docs/report/workflow.rst"


include: "rules/common.smk"
include: "rules/fetch.smk"
include: "rules/init.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/report.smk"
include: "rules/study.smk"


onstart:
    check_backends()


localrules:
    all,
    fetch_model,
    fetch_data,
    parity,
    collect,
    table,
    figure,
    tables,
    figures,
    study_table,
    study_figure,
    studies,
    train_all,


rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,


rule train_all:
    input:
        train_records,
