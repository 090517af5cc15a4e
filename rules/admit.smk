# One check of a model and its rows before the first costly job of either.


wildcard_constraints:
    purpose="sweep|studies",


# A checkpoint, since jobs wait for it (admitted, in inputs.smk) and do not have it as an input: a check that runs
# again, for one more task, is no reason to train again. (`ancient` is no way: Snakemake then overlooks new jobs.)
# The old record stays where a new check fails (`update`): without one, Snakemake asks for no check. It takes such a
# failed job for finished, though, so that the mark of a check that did not end well is an input of the next one.
checkpoint admit:
    input:
        lambda w: unfinished(paths.admission(w.purpose, w.model)),
        model=lambda w: paths.model(w.model),
        rows=lambda w: admission.rows(admission_of(w)),
    output:
        update(paths.admission("{purpose}", "{model}")),
    log:
        paths.log("admit", "{purpose}", "{model}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **LIGHT,
    params:
        spec=spec(lambda w: admission_of(w)),
    shell:
        "python -m pissa_repro.stages.admit --spec {params.spec:q} --model {input.model:q} --out {output:q} "
        "> {log:q} 2>&1"
