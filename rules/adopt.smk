# What is scored and was not trained here, in the place of init and train.


# Adapters that were trained elsewhere. The files of their folders are inputs, so that an edit is noticed. So they must
# stay while they are swept, finished or not: without its inputs Snakemake would take this job for another one, and do it
# again. No spec and no record after this rule knows where they lie.
rule adopt:
    input:
        adopted_files,
        unpack(fetched(of_adopted)),
    output:
        record=paths.cell("{adopted}").train,
        trained=directory(paths.cell("{adopted}").trained),
    log:
        paths.log("adopt", "{adopted}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **LIGHT,
    params:
        content=content(of_adopted),
        spec=spec(lambda w: SWEEP.trained_spec(SWEEP.scored(w.adopted))),
        source=spec(lambda w: adopted.source(definition_of(w))),
    shell:
        "python -m pissa_repro.stages.adopt --spec {params.spec:q} --source {params.source:q} --model {input.model:q} "
        "--trained {output.trained:q} --record {output.record:q} > {log:q} 2>&1"


# The base as it is (sweep.bases): row 0 of the tables.
rule base:
    input:
        unpack(fetched(of_base)),
    output:
        record=paths.cell("{base}").train,
        trained=directory(paths.cell("{base}").trained),
    log:
        paths.log("base", "{base}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **LIGHT,
    params:
        content=content(of_base),
        spec=spec(lambda w: SWEEP.trained_spec(SWEEP.scored(w.base))),
    shell:
        "python -m pissa_repro.stages.base --spec {params.spec:q} --model {input.model:q} "
        "--trained {output.trained:q} --record {output.record:q} > {log:q} 2>&1"
