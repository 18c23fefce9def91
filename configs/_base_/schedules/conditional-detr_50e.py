_base_ = "./detr_150e.py"

train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(type="MultiStepLR", begin=0, end=50, by_epoch=True, milestones=[40], gamma=0.1)
]
