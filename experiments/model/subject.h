// From a request to the graph that computes it.
#pragma once

#include "experiments/model/model.h"
#include "models/definition.h"
#include "models/graph.h"

namespace nalab::model {

struct Subject {
  models::Definition definition;
  models::Graph graph;
};

/// Throws Error as facts() does.
Subject subject_of(const Request& request);

}  // namespace nalab::model
