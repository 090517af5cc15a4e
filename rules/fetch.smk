# Models and datasets: downloaded at a pinned revision, found on disk, or generated.


rule fetch_model:
    input:
        lambda w: local_files("models", w.model),
    output:
        "results/fetch/models/{model}.json",
    log:
        "logs/fetch/models/{model}.log",
    retries: 2
    conda:
        "../environment.yml"
    params:
        spec=spec(lambda w: SWEEP.model_spec(w.model)),
    shell:
        "python -m pissa_repro.stages.fetch --spec {params.spec:q} --out {output} > {log} 2>&1"


rule fetch_data:
    input:
        lambda w: local_files("datasets", w.data),
    output:
        rows="results/fetch/data/{data}.jsonl",
        record="results/fetch/data/{data}.json",
    log:
        "logs/fetch/data/{data}.log",
    retries: 2
    conda:
        "../environment.yml"
    params:
        spec=spec(lambda w: SWEEP.data_spec(w.data)),
    shell:
        "python -m pissa_repro.stages.fetch --spec {params.spec:q} --out {output.record} --rows {output.rows} > {log} 2>&1"


# The shipped base model, made again from its recipe: `snakemake --cores all pretrain`.
rule pretrain:
    output:
        directory("results/embedded/model"),
    log:
        "logs/pretrain.log",
    conda:
        "../environment.yml"
    threads: 2
    shell:
        "python -m pissa_repro.stages.pretrain --out {output} --threads {threads} > {log} 2>&1"
