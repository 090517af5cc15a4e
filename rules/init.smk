# Initial factors and their quantization error; shared by all cells that start the same way.


rule init:
    input:
        start_admitted,
        unpack(fetched(of_start)),
        statistics=lambda w: [paths.statistics(name) for name in SWEEP.known(start_of(w))],
    output:
        directory(paths.start("{start}")),
    log:
        paths.log("init", "{start}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: start_of(w).model, runtime=240),
    params:
        content=content(of_start),
        spec=spec(lambda w: SWEEP.init_spec(start_of(w))),
    shell:
        "python -m pissa_repro.stages.init --spec {params.spec:q} --model {input.model:q} --out {output:q} "
        "--statistics {input.statistics:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule quant_error:
    input:
        unpack(fetched(of_error)),
        factors=paths.start("{start}"),
        weighing=weighing_folder,
    output:
        paths.start_error("{start}"),
    log:
        paths.log("quant_error", "{start}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: start_of(w).model, runtime=240),
    params:
        content=content(of_error),
        spec=spec(lambda w: SWEEP.quant_error_spec(start_of(w))),
    shell:
        "python -m pissa_repro.stages.quant_error --spec {params.spec:q} --model {input.model:q} "
        "--factors {input.factors:q} --statistics {input.weighing:q} --data {input.data:q} --out {output:q} "
        "--gpus {resources.gpu:q} > {log:q} 2>&1"
