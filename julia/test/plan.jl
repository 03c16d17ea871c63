plan = read_plan("resnet18")
@test plan.constructor == "ResNet"
@test plan.arguments == [18]
@test isempty(plan.keywords)
@test plan.units[1].name == "conv1"
@test plan.units[1].kind === :conv
@test plan.units[1].options["kernel"] == 7
@test plan.units[1].layers[1] == plan.units[1].layers[1]
@test plan.units[1].layers[1].shape == [64, 3, 7, 7]
@test plan.units[end].layers[1].bias
@test PyFluxTransfer.stages(plan.units) == ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
@test read_plan("efficientnet_lite0").constructor == ""
