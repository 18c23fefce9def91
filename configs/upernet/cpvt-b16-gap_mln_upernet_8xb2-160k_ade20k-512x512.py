# CPVT-B-GAP: no class token. The paper's classifier averages the tokens instead.
_base_ = "./cpvt-b16_mln_upernet_8xb2-160k_ade20k-512x512.py"

model = dict(backbone=dict(with_cls_token=False))
