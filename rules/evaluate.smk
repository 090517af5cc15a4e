# What the trained cells generate, what that scores, and the one table that holds all scores.


# Many cells share one start of the engine. What each has generated is kept in results/cells/<cell>/generated,
# which is no output: Snakemake deletes the outputs of a failed job, and the next try goes on from the kept items.
rule generate:
    input:
        batch_rows,
        batch_starts,
        batch_trained,
        model=lambda w: model_record(SWEEP.batches[w.batch].model),
    output:
        "results/generated/{batch}.json",
    log:
        "logs/generate/{batch}.log",
    retries: 1
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=batch_gpus,
        tensor_parallel=1,
        batch_size=batch_prompts,
    params:
        spec=spec(lambda w: SWEEP.batch_spec(w.batch)),
    shell:
        "python -m pissa_repro.generate --spec {params.spec:q} --model {input.model} --results results --out {output} "
        "--gpus {resources.gpu} --tensor-parallel {resources.tensor_parallel} --batch-size {resources.batch_size} "
        "> {log} 2>&1"


rule evaluate:
    input:
        "results/cells/{cell}/trained",
        generated=ancient(generated),  # another cell in the batch is no reason to score this one again
        data=lambda w: data_rows(SWEEP.config["tasks"][w.task]["dataset"]),
    output:
        record="results/cells/{cell}/eval/{task}.json",
        samples="results/cells/{cell}/eval/{task}.samples.jsonl",
    log:
        "logs/evaluate/{cell}/{task}.log",
    conda:
        "../environment.yml"
    threads: 1
    params:
        spec=spec(lambda w: SWEEP.evaluate_spec(cell_of(w), w.task)),
    shell:
        "python -m pissa_repro.evaluate --spec {params.spec:q} --data {input.data} "
        "--generations results/cells/{wildcards.cell}/generated/{wildcards.task}.jsonl "
        "--record {output.record} --samples {output.samples} > {log} 2>&1"


rule collect:
    input:
        train_records,
        scores,
        quant_errors,
        code=modules("collect"),
    output:
        "results/scores.csv",
    log:
        "logs/collect.log",
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.collect --config {params.config:q} --results results --out {output} > {log} 2>&1"
