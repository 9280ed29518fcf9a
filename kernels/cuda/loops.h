// The main loops behind linear(): what each can do, and how it is started. All are pure but for the launch.
#pragma once

#include "linear.h"

namespace cdna_cuda {

// Whether there is all that the weights need, aligned, and of what kernels take.
Outcome check_weights(const Weights& weights);

// What the loop would do with the call, or why it cannot. Called after the checks that hold for all of them.
LinearPlan plan_stream(const LinearCall& call, const Device& device);
LinearPlan plan_block(const LinearCall& call, const Device& device);
LinearPlan plan_wgmma(const LinearCall& call, const Device& device);

// Launches what the plan says. Requires: the loop's own plan for this call, without error, and a workspace that fits.
Outcome run_stream(const LinearCall& call, const LinearPlan& plan, const Device& device);
Outcome run_block(const LinearCall& call, const LinearPlan& plan, const Device& device);
Outcome run_wgmma(const LinearCall& call, const LinearPlan& plan, const Device& device);

}  // namespace cdna_cuda
