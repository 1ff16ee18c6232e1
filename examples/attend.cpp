// Neighborhood attention of a 56 x 56 feature map, two heads of 32, window 7 x 7.
#include <nalab/nalab.h>
#include <algorithm>
#include <cstdio>

int main() {
  nalab::Problem problem{.axes = {{.extent = 56, .window = 7}, {.extent = 56, .window = 7}}};
  problem.heads = problem.heads_kv = 2;
  problem.head_dim = problem.head_dim_v = 32;

  using nalab::ElementType;
  nalab::Tensor q(ElementType::f32, q_shape(problem)), k(ElementType::f32, k_shape(problem));
  nalab::Tensor v(ElementType::f32, v_shape(problem)), out(ElementType::f32, out_shape(problem));
  nalab::Tensor lse(ElementType::f32, lse_shape(problem));
  for (nalab::Tensor* tensor : {&q, &k, &v}) std::fill_n(tensor->data<float>(), tensor->elements(), 1.0f);
  std::fill_n(q.data<float>(), q.elements(), 0.0f);

  nalab::Context context;
  attention_forward(problem, {.q = q.view(), .k = k.view(), .v = v.view()}, {.out = out.view(), .lse = lse.view()},
                    context);
  // All scores are zero: each query weighs its 49 keys alike, and lse is log(49).
  std::printf("out[0] = %.4f, lse[0] = %.4f\n", *out.data<float>(), *lse.data<float>());
}
