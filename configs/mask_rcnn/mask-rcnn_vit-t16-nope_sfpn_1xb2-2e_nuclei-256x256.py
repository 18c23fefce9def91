# Mask R-CNN, ViT-Ti/16 without position encoding; its siblings name the encoding, and nothing else.
_base_ = [
    "../_base_/models/mask-rcnn_vit_sfpn_slim.py",
    "../_base_/datasets/nuclei_instance.py",
    "../_base_/schedules/vit_1x.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(
    backbone=dict(img_size=256, position_encodings=[]),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
)
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=2)
