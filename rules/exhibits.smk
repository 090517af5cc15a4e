# Tables and figures: one file each in pissa_repro/exhibits/, which says what it needs. They are cheap, so their source
# files are inputs: an edit makes them again. Targets: results/gsm8k_table.csv, results/paper/table8.csv,
# figures/paper/figure14.svg, figures/extra/depth.svg; `all` and `studies`.


wildcard_constraints:
    table=r"(paper|extra)/.+|[^/]+_table",
    figure=r".+",


rule table:
    input:
        lambda w: needs("table", w.table),
        code=lambda w: exhibit_code("table", w.table),
        published=source("reference/paper_tables.yaml"),
        identities=source("reference/identities.yaml"),
    output:
        csv=report(paths.table("{table}"), caption="../docs/report/table.rst", category="Tables"),
        markdown=paths.table("{table}", "md"),
    log:
        paths.log("table", "{table}"),
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.table --config {params.config:q} --place {wildcards.table:q} --out {output:q} "
        "> {log:q} 2>&1"


rule figure:
    input:
        lambda w: needs("figure", w.figure),
        code=lambda w: exhibit_code("figure", w.figure),
        published=source("reference/paper_tables.yaml"),
    output:
        svg=report(paths.figure("{figure}"), caption="../docs/report/figure.rst", category="Figures"),
        png=paths.figure("{figure}", "png"),
    log:
        paths.log("figure", "{figure}"),
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.figure --config {params.config:q} --place {wildcards.figure:q} --out {output:q} "
        "> {log:q} 2>&1"


rule studies:
    input:
        exhibits.targets(SWEEP, "studies"),
