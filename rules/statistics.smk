# What starts know of data: a statistic of a model's modules over rows, shared by all methods that ask for the same.


rule statistics:
    input:
        statistics_admitted,
        unpack(fetched(of_statistics)),
    output:
        directory(paths.statistics("{statistics}")),
    log:
        paths.log("statistics", "{statistics}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: statistic_of(w).model, runtime=240),
    params:
        content=content(of_statistics),
        spec=spec(lambda w: statistic_of(w).spec),
    shell:
        "python -m pissa_repro.stages.statistics --spec {params.spec:q} --model {input.model:q} --data {input.data:q} "
        "--out {output:q} --gpus {resources.gpu:q} > {log:q} 2>&1"
