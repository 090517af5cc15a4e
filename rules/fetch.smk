# Models and datasets: downloaded at a pinned revision, found on disk, or generated. Checkpoints: when it is known what
# was fetched, Snakemake looks again at what comes after, and only other bits make that run again.


checkpoint fetch_model:
    input:
        lambda w: local_files("models", w.model),
    output:
        paths.model("{model}"),
    log:
        paths.log("fetch", "models", "{model}"),
    retries: 2
    conda:
        "../environment.yml"
    params:
        spec=spec(lambda w: SWEEP.model_spec(w.model)),
    shell:
        "python -m pissa_repro.stages.fetch --spec {params.spec:q} --out {output:q} > {log:q} 2>&1"


checkpoint fetch_data:
    input:
        lambda w: local_files("datasets", w.data),
    output:
        rows=paths.rows("{data}"),
        record=paths.data("{data}"),
    log:
        paths.log("fetch", "data", "{data}"),
    retries: 2
    conda:
        "../environment.yml"
    params:
        spec=spec(lambda w: SWEEP.data_spec(w.data)),
        code=generator_code,
    shell:
        "python -m pissa_repro.stages.fetch --spec {params.spec:q} --out {output.record:q} --rows {output.rows:q} "
        "> {log:q} 2>&1"


# The shipped base model, made again from its recipe: `snakemake --cores all pretrain`.
rule pretrain:
    output:
        directory(paths.pretrained()),
    log:
        paths.log("pretrain"),
    conda:
        "../environment.yml"
    threads: 2
    shell:
        "python -m pissa_repro.stages.pretrain --out {output:q} --threads {threads:q} > {log:q} 2>&1"
