_base_ = "./mask-rcnn_vit-t16-nope_sfpn_1xb2-2e_nuclei-256x256.py"

model = dict(backbone=dict(position_encodings=[dict(type="RelativePositionBias")]))
