# DeiT's schedule (https://arxiv.org/abs/2012.12877, table 9) for 1024 images a step; biases, norms
# and encodings do not decay.
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        custom_keys={
            "cls_token": dict(decay_mult=0.0),
            "reg_token": dict(decay_mult=0.0),
            ".pos.": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, begin=0, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, begin=5, end=300, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)
