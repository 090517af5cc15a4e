# The paper's studies of initialisation and quantization error; nothing is trained, except for the
# losses of Table 6. Targets: results/studies/<model>/table8.csv, figures/<model>/fig14.svg, `studies`.


wildcard_constraints:
    grid="ranks|quants|turns|blocks",
    study_table="|".join(exhibits.TABLES),
    study_figure="|".join(exhibits.FIGURES),


rule study_errors:
    input:
        model=lambda w: model_record(w.model),
    output:
        csv="results/studies/{model}/errors_{grid}.csv",
        record="results/studies/{model}/errors_{grid}.json",
    log:
        "logs/studies/{model}/errors_{grid}.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(w.model)),
    params:
        spec=spec(lambda w: studies.errors_spec(SWEEP, w.model, w.grid)),
    shell:
        "python -m pissa_repro.stages.study_errors --spec {params.spec:q} --model {input.model} --out {output.csv} "
        "--record {output.record} --scratch scratch/spectrum --gpus {resources.gpu} > {log} 2>&1"


rule study_spectra:
    input:
        model=lambda w: model_record(w.model),
    output:
        "results/studies/{model}/spectra.json",
    log:
        "logs/studies/{model}/spectra.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(w.model)),
    params:
        spec=spec(lambda w: studies.spectra_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_spectra --spec {params.spec:q} --model {input.model} --out {output} "
        "--scratch scratch/spectrum --gpus {resources.gpu} > {log} 2>&1"


rule study_solvers:
    input:
        model=lambda w: model_record(w.model),
    output:
        csv="results/studies/{model}/solvers.csv",
        record="results/studies/{model}/solvers.json",
    log:
        "logs/studies/{model}/solvers.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(w.model)),
    params:
        spec=spec(lambda w: studies.solvers_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_solvers --spec {params.spec:q} --model {input.model} --out {output.csv} "
        "--record {output.record} --gpus {resources.gpu} > {log} 2>&1"


rule study_gptq:
    input:
        model=lambda w: model_record(w.model),
        calibration=gptq_rows("calibration"),
        text=gptq_rows("text"),
    output:
        "results/studies/{model}/gptq.json",
    log:
        "logs/studies/{model}/gptq.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(w.model)),
    params:
        spec=spec(lambda w: studies.gptq_spec(SWEEP, w.model)),
    shell:
        "python -m pissa_repro.stages.study_gptq --spec {params.spec:q} --model {input.model} --calibration {input.calibration} "
        "--text {input.text} --out {output} --scratch scratch/spectrum --gpus {resources.gpu} > {log} 2>&1"


rule trained_error:
    input:
        model=lambda w: model_record(cell_of(w).model),
        init=lambda w: init_folder(cell_of(w)),
        trained="results/cells/{cell}/trained",
    output:
        "results/cells/{cell}/trained_error.json",
    log:
        "logs/trained_error/{cell}.log",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        gpu=lambda w: min(1, gpus(cell_of(w).model)),
    params:
        spec=spec(lambda w: studies.trained_error_spec(SWEEP, cell_of(w))),
    shell:
        "python -m pissa_repro.stages.quant_error --spec {params.spec:q} --model {input.model} --factors {input.init} "
        "--trained {input.trained} --out {output} --gpus {resources.gpu} > {log} 2>&1"


rule study_table:
    input:
        lambda w: exhibits.table_inputs(SWEEP, w.model, w.study_table),
        code=code("study_table"),
        published=source("reference/paper_tables.yaml"),
    output:
        csv=report("results/studies/{model}/{study_table}.csv", caption="../docs/report/table.rst", category="Studies"),
        markdown="results/studies/{model}/{study_table}.md",
    log:
        "logs/studies/{model}/{study_table}.log",
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.study_table --config {params.config:q} --results results --model {wildcards.model} "
        "--table {wildcards.study_table} --out {output.csv} --markdown {output.markdown} > {log} 2>&1"


rule study_figure:
    input:
        lambda w: exhibits.figure_inputs(SWEEP, w.model, w.study_figure),
        code=code("study_figure"),
        published=source("reference/paper_tables.yaml"),
    output:
        svg=report("figures/{model}/{study_figure}.svg", caption="../docs/report/figure.rst", category="Studies"),
        png="figures/{model}/{study_figure}.png",
    log:
        "logs/studies/{model}/{study_figure}.log",
    conda:
        "../environment.yml"
    params:
        config=spec(lambda w: SWEEP.config),
    shell:
        "python -m pissa_repro.stages.study_figure --config {params.config:q} --results results --model {wildcards.model} "
        "--figure {wildcards.study_figure} --out {output.svg} {output.png} > {log} 2>&1"


rule studies:
    input:
        expand(
            "results/studies/{model}/{table}.csv",
            model=SWEEP.config["studies"]["models"],
            table=exhibits.tables_of(SWEEP),
        ),
        expand("figures/{model}/{figure}.svg", model=SWEEP.config["studies"]["models"], figure=exhibits.FIGURES),
