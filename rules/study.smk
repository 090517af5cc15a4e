# What the studies of initialisation and quantization error measure, a model at a time; nothing is trained but a toy, and
# the first updates of the models of `studies.gradients`.
# The tables and figures of them: exhibits.smk.


wildcard_constraints:
    grid="ranks|quants|alternations|blocks",


rule study_errors:
    input:
        study_admitted("errors_{grid}.json", lambda w: studies.errors_spec(SWEEP, w.model, w.grid)),
        unpack(fetched(of_study)),
    output:
        csv=paths.study("{model}", "errors_{grid}.csv"),
        record=paths.study("{model}", "errors_{grid}.json"),
    log:
        paths.log("studies", "{model}", "errors_{grid}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: w.model, runtime=240),
    params:
        content=content(of_study),
        spec=spec(lambda w: studies.errors_spec(SWEEP, w.model, w.grid)),
    shell:
        "python -m pissa_repro.stages.study_errors --spec {params.spec:q} --model {input.model:q} --out {output.csv:q} "
        "--record {output.record:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule study_spectra:
    input:
        study_admitted("spectra.json", lambda w: studies.spectra_spec(SWEEP, w.model)),
        unpack(fetched(of_study)),
    output:
        paths.study("{model}", "spectra.json"),
    log:
        paths.log("studies", "{model}", "spectra"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: w.model, runtime=240),
    params:
        content=content(of_study),
        spec=spec(lambda w: studies.spectra_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_spectra --spec {params.spec:q} --model {input.model:q} --out {output:q} "
        "--gpus {resources.gpu:q} > {log:q} 2>&1"


rule study_solvers:
    input:
        study_admitted("solvers.json", lambda w: studies.solvers_spec(SWEEP, w.model)),
        unpack(fetched(of_study)),
    output:
        csv=paths.study("{model}", "solvers.csv"),
        record=paths.study("{model}", "solvers.json"),
    log:
        paths.log("studies", "{model}", "solvers"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: w.model, runtime=240),
    params:
        content=content(of_study),
        spec=spec(lambda w: studies.solvers_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_solvers --spec {params.spec:q} --model {input.model:q} "
        "--out {output.csv:q} --record {output.record:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule study_gptq:
    input:
        study_admitted("gptq.json", lambda w: studies.gptq_spec(SWEEP, w.model)),
        unpack(fetched(of_gptq)),
    output:
        paths.study("{model}", "gptq.json"),
    log:
        paths.log("studies", "{model}", "gptq"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: w.model, runtime=240),
    params:
        content=content(of_gptq),
        spec=spec(lambda w: studies.gptq_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_gptq --spec {params.spec:q} --model {input.model:q} "
        "--calibration {input.calibration:q} --text {input.text:q} --out {output:q} "
        "--gpus {resources.gpu:q} > {log:q} 2>&1"


rule trained_error:
    input:
        unpack(fetched(of_cell)),
        init=lambda w: init_folder(cell_of(w)),
        trained=paths.cell("{cell}").trained,
    output:
        paths.cell("{cell}").trained_error,
    log:
        paths.log("trained_error", "{cell}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: cell_of(w).model, runtime=240),
    params:
        content=content(of_cell),
        spec=spec(lambda w: studies.trained_error_spec(SWEEP, cell_of(w))),
    shell:
        "python -m pissa_repro.stages.quant_error --spec {params.spec:q} --model {input.model:q} "
        "--factors {input.init:q} --trained {input.trained:q} --out {output:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule updates:
    input:
        unpack(fetched(of_cell)),
        init=lambda w: init_folder(cell_of(w)),
        trained=paths.cell("{cell}").trained,
    output:
        paths.cell("{cell}").updates,
    log:
        paths.log("updates", "{cell}"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: cell_of(w).model, runtime=240),
    params:
        content=content(of_cell),
        spec=spec(lambda w: studies.updates_spec(SWEEP, cell_of(w))),
    shell:
        "python -m pissa_repro.stages.study_updates --spec {params.spec:q} --model {input.model:q} "
        "--init {input.init:q} --trained {input.trained:q} --out {output:q} --gpus {resources.gpu:q} > {log:q} 2>&1"


rule study_gradients:
    input:
        gradients_admitted,
        unpack(fetched(of_gradients)),
    output:
        paths.study("{model}", gradients.RECORD),
    log:
        paths.log("studies", "{model}", "gradients"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: w.model, runtime=240),
        micro_batch_size=lambda w: how.number(SWEEP.config["models"][w.model].get("micro_batch_size")),
    params:
        content=content(of_gradients),
        spec=spec(lambda w: gradients.spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_gradients --spec {params.spec:q} --model {input.model:q} "
        "--data {input.data:q} --out {output:q} --gpus {resources.gpu:q} "
        "--micro-batch-size {resources.micro_batch_size:q} > {log:q} 2>&1"


rule study_toy:
    input:
        digits=toy_files,
    output:
        paths.toy(),
    log:
        paths.log("studies", "toy"),
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **LIGHT,
    params:
        spec=spec(lambda w: toy.spec(SWEEP)),
    shell:
        "python -m pissa_repro.stages.study_toy --spec {params.spec:q} --digits {input.digits:q} --out {output:q} "
        "> {log:q} 2>&1"
