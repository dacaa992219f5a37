"""Corrective RAG: documents are graded, the question is rewritten if one is not relevant, the web is searched."""

from __future__ import annotations

from typing import Any, TypedDict

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, Field

vectorstore = InMemoryVectorStore.from_texts(
    ["Agents have memory.", "Prompts are engineered.", "Attacks are adversarial."],
    embedding=DeterministicFakeEmbedding(size=16),
)
retriever = vectorstore.as_retriever(search_kwargs={"k": 2})


class GradeDocuments(BaseModel):
    """Binary score for relevance check on retrieved documents."""

    binary_score: str = Field(description="Documents are relevant to the question, 'yes' or 'no'")


llm = ChatOpenAI(model="gpt-4o-mini", temperature=0)
grade_prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "You are a grader assessing relevance of a retrieved document to a user question."),
        ("human", "Retrieved document: \n\n {document} \n\n User question: {question}"),
    ]
)
retrieval_grader = grade_prompt | llm.with_structured_output(GradeDocuments)
rag_chain = ChatPromptTemplate.from_template("Question: {question}\nContext: {context}") | llm | StrOutputParser()
question_rewriter = ChatPromptTemplate.from_template("Improve: {question}") | llm | StrOutputParser()


class GraphState(TypedDict):
    question: str
    generation: str
    web_search: str
    documents: list[Any]


def format_docs(docs) -> str:
    return "\n\n".join(doc.page_content for doc in docs)


def retrieve(state: GraphState):
    return {"documents": retriever.invoke(state["question"])}


def grade_documents(state: GraphState):
    filtered_docs, web_search = [], "No"
    for d in state["documents"]:
        score = retrieval_grader.invoke({"question": state["question"], "document": d.page_content})
        if score.binary_score == "yes":
            filtered_docs.append(d)
        else:
            web_search = "Yes"
    return {"documents": filtered_docs, "web_search": web_search}


def transform_query(state: GraphState):
    return {"question": question_rewriter.invoke({"question": state["question"]})}


def web_search(state: GraphState):
    return {"documents": [*state["documents"], Document(page_content=f"the web on {state['question']}")]}


def decide_to_generate(state: GraphState):
    return "transform_query" if state["web_search"] == "Yes" else "generate"


def generate(state: GraphState):
    answer = rag_chain.invoke({"context": format_docs(state["documents"]), "question": state["question"]})
    return {"generation": answer}


workflow = StateGraph(GraphState)
for node in (retrieve, grade_documents, generate, transform_query, web_search):
    workflow.add_node(node)
workflow.add_edge(START, "retrieve")
workflow.add_edge("retrieve", "grade_documents")
workflow.add_conditional_edges("grade_documents", decide_to_generate, ["transform_query", "generate"])
workflow.add_edge("transform_query", "web_search")
workflow.add_edge("web_search", "generate")
workflow.add_edge("generate", END)
graph = workflow.compile(name="corrective_rag")
