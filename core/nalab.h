// The public face of the library: problems, tensors and their attention on CPUs. Installed as <nalab/nalab.h>.
//
//   nalab::Problem problem{.axes = {{.extent = 56, .window = 7}, {.extent = 56, .window = 7}}};
//   nalab::Context context;                                    // threads and memory, kept between calls
//   nalab::attention_forward(problem, inputs, outputs, context);
//
// Headers that are installed include each other by relative paths, so that users see no name other than nalab/.
#pragma once

#include "attention.h"
#include "context.h"
#include "error.h"
#include "operators/merge_attention.h"
#include "operators/permute_tokens.h"
#include "operators/split_attention.h"
#include "plan.h"
#include "problem.h"
#include "tensor_set.h"
#include "tensors.h"
