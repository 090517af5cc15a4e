# Tables and figures. They are cheap, so their source files are inputs: an edit makes them again.


rule table:
    input:
        samples,
        train_records,
        scores="results/scores.csv",
        code=code("table"),
        published=source("reference/paper_tables.yaml"),
    output:
        csv=report("results/{table}_table.csv", caption="../docs/report/table.rst", category="Tables"),
        markdown="results/{table}_table.md",
    log:
        "logs/table/{table}.log",
    wildcard_constraints:
        table=r"[^/]+",
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.table --config {params.config:q} --scores {input.scores} --results results "
        "--table {wildcards.table} --out {output.csv} --markdown {output.markdown} > {log} 2>&1"


rule figure:
    input:
        step_files,
        scores="results/scores.csv",
        code=code("figure"),
    output:
        svg=report("figures/{figure}.svg", caption="../docs/report/figure.rst", category="Figures"),
        png="figures/{figure}.png",
    log:
        "logs/figure/{figure}.log",
    wildcard_constraints:
        figure=r"[^/]+",
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.figure --config {params.config:q} --scores {input.scores} --results results "
        "--figure {wildcards.figure} --out {output.svg} {output.png} > {log} 2>&1"


rule tables:
    input:
        expand("results/{table}_table.csv", table=table_names()),


rule figures:
    input:
        expand("figures/{figure}.svg", figure=FIGURES),
