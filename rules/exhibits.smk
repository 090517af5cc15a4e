# Tables and figures: one file each in pissa_repro/exhibits/, which says what it needs. They are cheap, so the hash of
# their source files is a param: an edit makes them again. Targets: results/gsm8k_table.csv, results/paper/table8.csv,
# figures/paper/figure14.svg, figures/extra/depth.svg; `all`, `studies` and `paper`.


wildcard_constraints:
    table=r"(paper|extra)/.+|[^/]+_table",
    figure=r".+",


rule table:
    input:
        lambda w: needs("table", w.table),
    output:
        csv=report(paths.table("{table}"), caption="../docs/report/table.rst", category="Tables"),
        markdown=paths.table("{table}", "md"),
    log:
        paths.log("table", "{table}"),
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
        code=lambda w: exhibit_code("table", w.table),
    shell:
        "python -m pissa_repro.stages.table --config {params.config:q} --place {wildcards.table:q} --out {output:q} "
        "> {log:q} 2>&1"


rule figure:
    input:
        lambda w: needs("figure", w.figure),
    output:
        svg=report(paths.figure("{figure}"), caption="../docs/report/figure.rst", category="Figures"),
        png=paths.figure("{figure}", "png"),
    log:
        paths.log("figure", "{figure}"),
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
        code=lambda w: exhibit_code("figure", w.figure),
    shell:
        "python -m pissa_repro.stages.figure --config {params.config:q} --place {wildcards.figure:q} --out {output:q} "
        "> {log:q} 2>&1"


rule studies:
    input:
        exhibits.targets(SWEEP, "studies"),


# All that has a number in the paper and that this config can carry; `pissa exhibits` says what the others need.
rule paper:
    input:
        lambda w: exhibits.targets(SWEEP, "paper"),  # read only where it is asked for
