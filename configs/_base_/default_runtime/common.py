# What every pipeline shares. A config that sets its own custom_imports must list 'mmplugins' too.
custom_imports = dict(imports=["mmplugins"], allow_failed_imports=False)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
# With the seeded samplers of the dataset files, a resumed run repeats the uninterrupted one.
randomness = dict(seed=0)
custom_hooks = [dict(type="SeedIterationHook")]

log_level = "INFO"
load_from = None
resume = False
