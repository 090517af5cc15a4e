# Scores of the trained cells, and the one table that holds them all.


rule evaluate:
    input:
        model=lambda w: model_record(cell_of(w).model),
        data=lambda w: data_rows(SWEEP.config["tasks"][w.task]["dataset"]),
        init=lambda w: init_folder(cell_of(w)),
        train="results/cells/{cell}/train.json",
        trained="results/cells/{cell}/trained",
    output:
        record="results/cells/{cell}/eval/{task}.json",
        samples="results/cells/{cell}/eval/{task}.samples.jsonl",
    log:
        "logs/evaluate/{cell}/{task}.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(cell_of(w).model)),
        batch_size=lambda w: 16 if gpus(cell_of(w).model) else 64,
    params:
        spec=spec(lambda w: SWEEP.evaluate_spec(cell_of(w), w.task)),
    shell:
        "python -m pissa_repro.evaluate --spec {params.spec:q} --model {input.model} --data {input.data} "
        "--init {input.init} --trained {input.trained} --record {output.record} --samples {output.samples} "
        "--gpus {resources.gpu} --batch-size {resources.batch_size} > {log} 2>&1"


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
