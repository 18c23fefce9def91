# Mask R-CNN, ViT-Ti/16 without position encoding, on small data, with thinner heads than on COCO.
_base_ = [
    "../_base_/models/mask-rcnn_vit_sfpn.py",
    "../_base_/datasets/nuclei_instance.py",
    "../_base_/schedules/vit_1x.py",
    "../_base_/default_runtime/detection.py",
]

model = dict(
    backbone=dict(
        arch="tiny", img_size=256, window_size=0, drop_path_rate=0.0, position_encodings=[]
    ),
    neck=dict(in_channels=192, out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64),
        bbox_head=dict(in_channels=64, fc_out_channels=256, num_classes=1),
        mask_roi_extractor=dict(out_channels=64),
        mask_head=dict(in_channels=64, conv_out_channels=64, num_classes=1),
    ),
    train_cfg=dict(rpn_proposal=dict(max_per_img=500), rcnn=dict(sampler=dict(num=128))),
    test_cfg=dict(rpn=dict(max_per_img=500)),
)
train_cfg = dict(max_epochs=2, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=2, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=2)
