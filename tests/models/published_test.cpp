// The definitions of data/models are those that were published, and so are their parameters and costs.
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <string>
#include <utility>
#include <variant>

#include "models/build.h"
#include "models/parameters.h"
#include "tests/source_folder.h"

namespace nalab::models {
namespace {

YAML::Node published(const std::string& name) {
  return YAML::LoadFile(source_folder() + "/data/published/" + name + ".yaml");
}

struct Count {
  const char* model;
  int64_t parameters;
};

/// For the names of tests.
void PrintTo(const Count& count, std::ostream* stream) { *stream << count.parameters; }

class PublishedModels : public testing::TestWithParam<Count> {};

TEST_P(PublishedModels, HaveTheirParametersToTheUnit) {
  EXPECT_EQ(parameter_count(build(find_definition(GetParam().model))), GetParam().parameters);
}

INSTANTIATE_TEST_SUITE_P(
    All, PublishedModels,
    testing::Values(Count{"NAT-M", 19984174}, Count{"DiNAT-M", 19984174}, Count{"NAT-T", 27901582},
                    Count{"DiNAT-T", 27901582}, Count{"NAT-S", 50743297}, Count{"DiNAT-S", 50719681},
                    Count{"NAT-B", 89769652}, Count{"DiNAT-B", 89769652}, Count{"DiNAT-L", 200943514},
                    Count{"DiNAT-L-384-7x7", 200943514}, Count{"DiNAT-L-384", 201144250}, Count{"DiNATs-T", 28288354},
                    Count{"DiNATs-S", 49606258}, Count{"DiNATs-B", 87768224}, Count{"DiNATs-L", 196532476},
                    Count{"DiNATs-L-384", 196532476}, Count{"NAT-iso-S", 21999736}, Count{"DiNAT-iso-S", 21999736},
                    Count{"NAT-iso-B", 86465800}, Count{"DiNAT-iso-B", 86465800}, Count{"ViT-rpb-S", 22080376},
                    Count{"ViT-rpb-B", 86627080}, Count{"StyleNAT-256", 48921000}, Count{"StyleNAT-1024", 49452934}),
    [](const auto& test) {
      std::string name = test.param.model;
      std::erase(name, '-');
      return name;
    });

TEST(PublishedCosts, AreThoseOfTable5) {
  // Cut off instead of rounded in the table; DiNAT-L's is the sum of other rules.
  const std::map<std::string, double> known{{"DiNATs-S", 8.772}, {"DiNATs-B", 15.473}, {"DiNAT-L", 30.534}};
  int models = 0;
  for (const auto& entry : published("fna2024")["table5_imagenet_fp16"]) {
    const auto name = entry.first.as<std::string>();
    const double gmac = static_cast<double>(multiply_adds(build(find_definition(name))).all) / 1e9;
    const auto exception = known.find(name);
    if (exception != known.end()) {
      EXPECT_NEAR(gmac, exception->second, 0.0005) << name;
    } else {
      EXPECT_NEAR(gmac, entry.second["flops"].as<double>(), 0.0501) << name;
    }
    ++models;
  }
  EXPECT_EQ(models, 15);
}

/// Multiply-adds of linear layers and of attention's two products.
std::pair<double, double> products(const Graph& graph) {
  double linear = 0, attention = 0;
  for (const Node& node : graph.nodes()) {
    const auto out = static_cast<double>(node.extent.elements());
    if (std::holds_alternative<Linear>(node.operation)) {
      linear += out * static_cast<double>(graph.node(node.inputs[0]).extent.channels);
    }
    if (const auto* a = std::get_if<Attention>(&node.operation)) {
      attention += 2 * out * static_cast<double>(a->window * a->window);
    }
  }
  return {linear, attention};
}

TEST(PublishedCosts, OfStyleNatAreTheProductsAlone) {
  const std::map<std::string, std::string> names{{"FFHQ-256", "StyleNAT-256"}, {"FFHQ-1024", "StyleNAT-1024"}};
  for (const auto& entry : published("models")["stylenat"]) {
    const Graph graph = build(find_definition(names.at(entry.first.as<std::string>())));
    const auto [linear, attention] = products(graph);
    EXPECT_NEAR((linear + attention) / 1e9, entry.second["gmacs"].as<double>(), 0.0501);
    EXPECT_NEAR(attention / 1e9, entry.second["attention_gmacs"].as<double>(), 0.0501);
    EXPECT_NEAR(static_cast<double>(multiply_adds(graph).attention), attention, 0.05 * attention);
  }
}

TEST(PublishedDefinitions, AreThoseOfDataModels) {
  const YAML::Node file = published("models");
  for (const char* group : {"nat", "dinat", "dinats"}) {
    for (const auto& entry : file[group]) {
      const Definition& ours = find_definition(entry.first.as<std::string>());
      SCOPED_TRACE(ours.name);
      const YAML::Node& theirs = entry.second;
      using List = std::vector<int64_t>;
      EXPECT_EQ(ours.kind, group == std::string("dinats") ? Kind::dinats : Kind::nat);
      EXPECT_EQ(ours.depths, theirs["depths"].as<List>());
      EXPECT_EQ(ours.heads, theirs["heads"].as<List>());
      for (size_t i = 0; i < ours.channels.size(); ++i) {
        EXPECT_EQ(ours.channels[i], theirs["embed_dim"].as<int64_t>() << i);
        EXPECT_EQ(ours.channels[i], 32 * ours.heads[i]);
      }
      EXPECT_EQ(ours.window, theirs["window"].as<int64_t>());
      EXPECT_EQ(ours.dilation, theirs["dilation"].as<List>(List{}));
      EXPECT_EQ(ours.mlp_ratio, theirs["mlp_ratio"].as<double>());
      EXPECT_EQ(ours.layer_scale, theirs["layer_scale"].as<double>(0));
      EXPECT_EQ(ours.input, theirs["input"].as<int64_t>(224));
    }
  }
}

}  // namespace
}  // namespace nalab::models
