# One training a cell. Checkpoints go to scratch/, which is no output: Snakemake deletes the outputs
# of a failed job, and the next try goes on from the last whole checkpoint. The log keeps what all tries said.


rule train:
    input:
        cell_admitted,
        unpack(fetched(of_cell)),
        init=lambda w: init_folder(cell_of(w)),
    output:
        record=paths.cell("{cell}").train,
        steps=paths.cell("{cell}").steps,
        trained=directory(paths.cell("{cell}").trained),
    log:
        paths.log("train", "{cell}"),
    wildcard_constraints:
        cell=rf"(?!({ADOPTED}|{BASES})/)[^/]+/[^/]+/[^/]+",
    conda:
        "../environment.yml"
    threads: 1
    resources:
        **loads(lambda w: cell_of(w).model, runtime=1440, cards=gpus),
        **WARNED,
        micro_batch_size=how_it_runs("micro_batch_size", how.MICRO),
        sharding=how_it_runs("sharding", NONE),
        gradient_checkpointing=how_it_runs("gradient_checkpointing", how.ON_CARDS),
        compile=how_it_runs("compile", False),
        checkpoint_steps=50,
        report_to="none",
    params:
        content=content(of_cell),
        spec=spec(lambda w: SWEEP.train_spec(cell_of(w))),
    shell:
        "python -m pissa_repro.stages.train --spec {params.spec:q} --model {input.model:q} --data {input.data:q} "
        "--init {input.init:q} --trained {output.trained:q} "
        f"--scratch {paths.SCRATCH}/{{wildcards.cell:q}} "
        "--record {output.record:q} --steps {output.steps:q} --gpus {resources.gpu:q} "
        "--micro-batch-size {resources.micro_batch_size:q} --checkpoint-steps {resources.checkpoint_steps:q} "
        "--sharding {resources.sharding:q} --gradient-checkpointing {resources.gradient_checkpointing:q} "
        "--compile {resources.compile:q} --report-to {resources.report_to:q} "
        ">> {log:q} 2>&1"
