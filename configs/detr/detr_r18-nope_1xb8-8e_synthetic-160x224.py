# DETR on the embedded benchmark, small and from scratch, without any position in the encoder; its
# siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/detr_r50.py",
    "../_base_/datasets/synthetic_instance.py",
    "../_base_/schedules/detr_150e.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(
    num_queries=25,
    backbone=dict(
        depth=18,
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True),
        norm_eval=False,
        init_cfg=None,
    ),
    neck=dict(in_channels=[512]),
    encoder=dict(num_layers=3, grid=(5, 7), position_encodings=[]),
    decoder=dict(num_layers=3),
    bbox_head=dict(num_classes=12),
    test_cfg=dict(max_per_img=25),
)
train_cfg = dict(max_epochs=8, val_interval=8)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=1.0)}))
param_scheduler = [
    dict(type="MultiStepLR", begin=0, end=8, by_epoch=True, milestones=[6], gamma=0.1)
]
val_evaluator = dict(metric="bbox")
test_evaluator = dict(metric="bbox")
auto_scale_lr = dict(base_batch_size=8)
